//! Three hosts with three collectors and an aggregator each, in network namespaces: one is lost, one is cut off from the others, all
//! are updated in turn. Over the three journals no round is without a price, and a lie moves none.

mod chronicle;
#[path = "hosts/host.rs"]
mod host;
mod support;
#[path = "hosts/three.rs"]
mod three;
mod witness;

use three::*;

#[test]
#[ignore = "needs namespaces"]
fn a_host_that_is_lost_and_one_that_is_cut_off_cost_no_price() {
    let test = "a_host_that_is_lost_and_one_that_is_cut_off_cost_no_price";
    let Some(mut three) = Three::set(test) else {
        return;
    };
    three.lose(0);
    for number in [1, 2] {
        three.until_only(number, &[1, 2], 2);
    }
    three.bring_back(0);
    three.until_whole();
    // The second host has an aggregator and three collectors, which are too few for a price. The others have six, and a price.
    let cut = [[1, 0], [1, 2]];
    cut.iter().for_each(|pair| three.part(*pair, true));
    for (number, hosts) in [(0, &[0, 2][..]), (1, &[1]), (2, &[0, 2])] {
        let kept = three.until_only(number, hosts, 2);
        assert_eq!(kept.price.is_some(), number != 1, "{}", kept.number);
    }
    cut.iter().for_each(|pair| three.part(*pair, false));
    three.until_whole();
    three.end();
}

#[test]
#[ignore = "needs namespaces"]
fn an_update_of_one_host_after_the_other_costs_no_price() {
    let test = "an_update_of_one_host_after_the_other_costs_no_price";
    let Some(mut three) = Three::set(test) else {
        return;
    };
    for number in 0..HOSTS {
        three.update(number);
        three.until_whole();
    }
    three.end();
}
