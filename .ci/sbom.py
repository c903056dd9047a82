"""Completes the SBOM that cargo-cyclonedx made, and checks it against CycloneDX's schema: sbom.py FILE

cargo-cyclonedx lists openssl-src as a mere build tool. But it builds OpenSSL, which is in the static binary, and which a
scanner for known vulnerabilities must see. So this adds OpenSSL as a component. It also removes the path of the checkout.
"""

import json
import pathlib
import sys

from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

file = pathlib.Path(sys.argv[1])
text = file.read_text().replace(f"file://{pathlib.Path.cwd()}", "file:///rsoracle")
bom = json.loads(text)

(builder,) = [c for c in bom["components"] if c["name"] == "openssl-src"]
version = builder["version"].partition("+")[2]
bom["components"].append(
    {
        "type": "library",
        "bom-ref": f"openssl@{version}",
        "name": "OpenSSL",
        "version": version,
        "description": "linked into the static binary; built by openssl-src as .ci/openssl configures it",
        "scope": "required",
        "licenses": [{"expression": "Apache-2.0"}],
        "cpe": f"cpe:2.3:a:openssl:openssl:{version}:*:*:*:*:*:*:*",
        "purl": f"pkg:generic/openssl@{version}",
    }
)
for entry in bom["dependencies"]:
    if entry["ref"] == builder["bom-ref"]:
        entry["dependsOn"] = sorted([*entry.get("dependsOn", []), f"openssl@{version}"])
bom["dependencies"].append({"ref": f"openssl@{version}"})

text = json.dumps(bom, indent=2) + "\n"
error = JsonStrictValidator(SchemaVersion.V1_5).validate_str(text)
if error is not None:
    sys.exit(f"sbom: not valid CycloneDX 1.5: {error}")
file.write_text(text)
print(f"{file}: {len(bom['components'])} components, valid CycloneDX 1.5")
