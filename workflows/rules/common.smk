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


def checked(config, schema):
    """The configuration with its defaults filled in; refused with all of its faults where it breaks the schema."""
    import yaml
    from jsonschema import Draft202012Validator
    from snakemake.utils import validate

    with open(schema, encoding="utf-8") as handle:
        validator = Draft202012Validator(yaml.safe_load(handle))
    plain = {key: value for key, value in config.items()}
    faults = sorted(validator.iter_errors(plain), key=lambda error: list(map(str, error.absolute_path)))
    if faults:
        refuse([f"{'/'.join(map(str, f.absolute_path)) or 'configuration'}: {f.message}" for f in faults])
    validate(config, schema)
    return config


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
