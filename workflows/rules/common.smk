# What both workflows share: a configuration that is checked before anything runs, resources, logs.

import os
import re
import shutil
import sys
import zlib


def refuse(faults):
    """One line per fault, no traceback, exit status 2."""
    for fault in faults:
        print(f"workflow: {fault}", file=sys.stderr)
    sys.stderr.flush()
    # Snakemake turns exceptions, SystemExit too, into several lines of its own.
    os._exit(2)


def worded(config):
    """The configuration with names as text: YAML takes an unquoted 22 for a number, and NO for a truth value."""
    faults = []

    def names(section, *path):
        if not isinstance(section, dict):
            return section
        plain = {}
        for key, value in section.items():
            if isinstance(key, (bool, float)) or not isinstance(key, (str, int)):
                faults.append(f"{'/'.join(path)}: {key} is no text: put the name in quotes")
            elif str(key) in plain:
                faults.append(f"{'/'.join(path)}: {key} is given twice")
            plain[str(key)] = value
        return plain

    for path in (("chromosomes",), ("runs",), ("people", "labels"), ("download", "md5")):
        *above, last = path
        section = config
        for key in above:
            section = section.get(key) if isinstance(section, dict) else None
        if isinstance(section, dict) and last in section:
            section[last] = names(section[last], *path)
    if faults:
        refuse(faults)
    return config


def said(fault):
    """A fault in words: the schema's own, where it has some."""
    place = "/".join(map(str, fault.absolute_path)) or "configuration"
    if fault.validator in ("not", "anyOf") and "$comment" in fault.schema:
        return f"{place}: {fault.schema['$comment']}"
    number = fault.validator_value == "string" and isinstance(fault.instance, (int, float))
    return f"{place}: {fault.message}" + ": put it in quotes" * number


def checked(config, schema):
    """The configuration with its defaults filled in; refused with all of its faults where it breaks the schema."""
    import yaml
    from jsonschema import Draft202012Validator
    from snakemake.utils import validate

    with open(schema, encoding="utf-8") as handle:
        validator = Draft202012Validator(yaml.safe_load(handle))
    plain = {key: value for key, value in worded(config).items()}
    faults = sorted(validator.iter_errors(plain), key=lambda error: list(map(str, error.absolute_path)))
    if faults:
        refuse(map(said, faults))
    validate(config, schema)
    return config


def sex_chromosomes(config, remedy):
    """A fault for each chromosome of which some people have one copy."""
    faults = []
    for name, entry in config["chromosomes"].items():
        for contig in (name, entry.get("region", "").split(":")[0]):
            kind = re.fullmatch("(?:chr)?(X|Y|MT?)", contig, re.IGNORECASE)
            if kind:
                what = f"X is not read here, for men have one copy of it: {remedy}"
                other = f"{contig} is not read, for it has one copy: leave it out"
                faults.append(f"chromosomes/{name}: {what if kind[1].upper() == 'X' else other}")
                break
    return faults


def twice(config):
    """A fault for each chromosome that is another one over again."""
    faults, known = [], {}
    for name, entry in config["chromosomes"].items():
        place = (entry.get("vcf", entry.get("train")), entry.get("region"))
        if place[0] is not None and known.setdefault(place, name) != name:
            faults.append(f"chromosomes/{name}: the same file and region as of {known[place]}: give each part once")
    return faults


def absent_files(config):
    """A fault for each input that does not exist; none where inputs may lie in a storage elsewhere."""
    if workflow.storage_settings.default_storage_provider is not None:
        return []
    places = {name: config[name] for name in ("panel", "synthetic_panel", "holdout_samples") if name in config}
    for chromosome, entry in config["chromosomes"].items():
        for name in ("vcf", "synthetic", "train", "holdout", "map"):
            if name in entry:
                places[f"chromosomes/{chromosome}/{name}"] = entry[name]
    return [
        f"{place}: {os.path.abspath(path)} does not exist" for place, path in places.items() if not os.path.exists(path)
    ]


def from_checkout(config):
    """The example with its files where the checkout lies, whatever folder the workflow is run in."""
    root = os.path.relpath(os.path.join(workflow.basedir, ".."))
    config["panel"] = os.path.normpath(os.path.join(root, config["panel"]))
    for entry in config["chromosomes"].values():
        entry["vcf"] = os.path.normpath(os.path.join(root, entry["vcf"]))
    return config


def require_programs(*names):
    """Refuses to start where a program is absent, unless jobs bring their own environment."""
    deployed = workflow.deployment_settings.deployment_method
    absent = [name for name in names if shutil.which(name) is None]
    if absent and not deployed:
        refuse([f"{name} is not on the PATH: install it, or run with --software-deployment-method conda" for name in absent])


def one_of(names):
    """A pattern for exactly these names."""
    return "|".join(map(re.escape, names))


def resource(rule, kind):
    """A resource of a rule; memory and time grow with every attempt, since both are what a killed job lacked."""

    def amount(wildcards, attempt):
        return config["resources"][rule][kind] * attempt

    return amount


def cores(rule):
    return config["resources"][rule]["threads"]


def option(flag, value):
    """``--flag value`` for the shell, nothing for a value that is not given."""
    import shlex

    return "" if value is None else f"{flag} {shlex.quote(str(value))}"


def seed_of(*parts):
    """A seed of its own for every piece of work: equal seeds would make the windows of a genome alike."""
    return zlib.crc32("/".join(map(str, (config["seed"], *parts))).encode())
