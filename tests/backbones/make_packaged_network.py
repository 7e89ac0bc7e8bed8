"""Convert the scattering network for `featstore/backbones/scattering.zip`, after a change of its definition.

Run in an empty FEATSTORE_CACHE: ``python tests/backbones/make_packaged_network.py``.
"""

import json
import os
import zipfile

from featstore.backbones import load_backbone
from featstore.backbones.engines import compiling
from featstore.hashing import fingerprint


def main() -> None:
    """Write the archive beside the code that reads it."""
    spec = load_backbone("scattering").spec
    network = compiling._converted(spec, load_backbone("scattering").build_with)
    key = compiling._network_key(spec)
    manifest = {"network": fingerprint(compiling._without_version(key)), "facts": network.facts}
    target = os.path.join(os.path.dirname(compiling.__file__), compiling.PACKAGED)
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        members = {
            "manifest.json": json.dumps(manifest, indent=1).encode(),
            "network.xml": network.xml,
            "network.bin": network.weights,
        }
        for name, data in members.items():
            archive.writestr(zipfile.ZipInfo(name), data, zipfile.ZIP_DEFLATED)
    print(target, os.path.getsize(target))


if __name__ == "__main__":
    main()
