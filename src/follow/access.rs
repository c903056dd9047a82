//! How sources are reached: whom TLS trusts, through which proxy, and who this client is to a NATS server.

use super::file::Growing;
use super::intake::Seen;
use super::nats::Nats;
use super::server::Server;
use super::settings::{FollowSettings, Place};
use super::supply::{Feeder, Supply, line_bytes_max};
use crate::exchange::proxy::Proxies;
use crate::exchange::roots::{Roots, Trust, defer};
use crate::exchange::tunnel::proxies;
use crate::follow::limits::ONCE_BACK;
use crate::nats::client::Way;
use crate::nats::credentials::Credentials;
use rsoracle_proof::terms::Terms;
use rsoracle_verify::error::Error;
use std::rc::Rc;

/// What all sources share.
pub(super) struct Access<'a> {
    settings: &'a FollowSettings,
    trust: Option<Trust>,
    proxies: Proxies,
    credentials: Option<Rc<Credentials>>,
}

impl<'a> Access<'a> {
    /// Reads what the settings name.
    pub(super) fn new(settings: &'a FollowSettings) -> Result<Access<'a>, Error> {
        let is_tls = |place: &Place| match place {
            Place::Server(endpoint, _) | Place::Nats(endpoint, _) => endpoint.tls,
            Place::File(_) => false,
        };
        let trust = match settings.sources.iter().any(|(_, place)| is_tls(place)) {
            true => {
                defer();
                Some(Roots::find(settings.ca_file.as_deref())?.trust()?)
            }
            false => None,
        };
        let credentials = settings.credentials.as_ref();
        let credentials = credentials.map(|(file, flag)| Credentials::read(file, flag));
        Ok(Access {
            settings,
            trust,
            proxies: proxies(settings.proxy.as_ref())?,
            credentials: credentials.transpose()?.map(Rc::new),
        })
    }

    /// One feed of a source that was not opened yet.
    pub(super) fn feeder(&self, place: &Place, terms: &Terms, last: Option<Seen>) -> Feeder {
        let (bytes_max, is_once) = (line_bytes_max(terms), self.settings.once);
        match place {
            Place::Server(endpoint, prefix) => {
                let way = (self.trust.clone(), self.proxies.clone());
                let server = Server::new(endpoint, prefix, &terms.feed, bytes_max, way);
                Feeder::Server(Box::new(server))
            }
            Place::Nats(endpoint, stream) => {
                let way = Way {
                    endpoints: vec![endpoint.clone()],
                    credentials: self.credentials.clone(),
                    ca_file: self.settings.ca_file.clone(),
                    trust: self.trust.clone(),
                    payload_bytes_max: bytes_max,
                };
                // Between two reports of a feed are those of the others.
                let back = ONCE_BACK * self.settings.rosters.newest().feeds.len() as u64;
                let back = if is_once { back } else { 0 };
                Feeder::Nats(Box::new(Nats::new(way, stream, &terms.feed, back)))
            }
            Place::File(path) => {
                let begin = Supply::begin(last, is_once);
                Feeder::File(Box::new(Growing::new(path, &terms.feed, bytes_max, begin)))
            }
        }
    }
}
