"""Write a bill of materials (CycloneDX 1.5, JSON) of the installed dependencies.

    python benchmarks/common/bill_of_materials.py > sbom.json

It lists what the package and its extras need, from the metadata of what is installed. Extras that
are not installed are left out.
"""

import json
import re
import sys
from importlib.metadata import PackageNotFoundError, distribution


def name_of(requirement: str) -> str:
    """Return the normalized name of the package that a requirement asks for."""
    return re.sub(r"[-_.]+", "-", re.match(r"[\w.-]+", requirement)[0]).lower()


def license_of(metadata) -> str:
    """Return the license as the metadata states it: an expression, a classifier or a text."""
    classes = [c for c in metadata.get_all("Classifier") or [] if c.startswith("License ::")]
    stated = metadata.get("License-Expression") or (classes and classes[-1].split(" :: ")[-1])
    return stated or (metadata.get("License") or "unknown").splitlines()[0]


def find(root: str) -> dict:
    """Return every installed distribution that the root needs, with the names of its own needs."""
    found, waiting = {}, [name_of(root)]
    while waiting:
        name = waiting.pop()
        if name in found:
            continue
        try:
            installed = distribution(name)
        except PackageNotFoundError:
            continue
        needs = [
            name_of(line)
            for line in installed.requires or []
            if name == name_of(root) or "extra ==" not in line
        ]
        found[name] = (installed, needs)
        waiting += needs
    return found


def bill(root: str = "sklearn-recft") -> dict:
    """Return the bill of materials as a dictionary."""
    found = find(root)
    reference = {name: f"pkg:pypi/{name}@{d.version}" for name, (d, _) in found.items()}
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "components": [
            {
                "type": "library",
                "bom-ref": reference[name],
                "name": name,
                "version": d.version,
                "purl": reference[name],
                "licenses": [{"license": {"name": license_of(d.metadata)}}],
            }
            for name, (d, _) in sorted(found.items())
        ],
        "dependencies": [
            {
                "ref": reference[name],
                "dependsOn": sorted({reference[n] for n in needs if n in found}),
            }
            for name, (_, needs) in sorted(found.items())
        ],
    }


if __name__ == "__main__":
    json.dump(bill(), sys.stdout, indent=1)
