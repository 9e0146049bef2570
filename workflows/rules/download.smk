# The 1000 Genomes phase 3 release of 2013-05-02: integrated calls v5b of every chromosome asked for, and the panel.
#
# A checksum is taken from `md5` of the configuration, else from the manifest of the site, which is fetched first. A file
# without a checksum, or with another one, is not kept.

DOWNLOAD = config["download"]
FETCH = workflow.source_path("../scripts/fetch.py")
CALLS = "ALL.chr{chromosome}.phase3_shapeit2_mvncall_integrated_v5b.20130502.genotypes.vcf.gz"
PANEL = "integrated_call_samples_v3.20130502.ALL.panel"


localrules:
    download_manifest,


def url_of(name):
    return f"{DOWNLOAD['release'].rstrip('/')}/{name}"


def checksum_of(name, manifest):
    if name in DOWNLOAD["md5"]:
        return option("--md5", DOWNLOAD["md5"][name])
    return option("--manifest", manifest)


def manifest_of(name):
    """The manifest, unless the configuration says the checksum itself."""
    return [] if name in DOWNLOAD["md5"] else [f"{OUT}/download/manifest"]


rule download_manifest:
    output:
        f"{OUT}/download/manifest",
    params:
        url=DOWNLOAD["manifest"],
        fetch=FETCH,
    log:
        f"{OUT}/logs/download/manifest.log",
    shell:
        "python {params.fetch:q} {params.url:q} {output:q} > {log:q} 2>&1"


rule download_calls:
    input:
        lambda wildcards: manifest_of(CALLS.format(chromosome=wildcards.chromosome)),
    output:
        f"{OUT}/download/chr{{chromosome}}.vcf.gz",
    params:
        url=lambda wildcards: url_of(CALLS.format(chromosome=wildcards.chromosome)),
        checksum=lambda wildcards: checksum_of(
            CALLS.format(chromosome=wildcards.chromosome), f"{OUT}/download/manifest"
        ),
        fetch=FETCH,
    retries: 2
    resources:
        mem_mb=resource("download", "mem_mb"),
        runtime=resource("download", "runtime"),
    log:
        f"{OUT}/logs/download/{{chromosome}}.log",
    benchmark:
        f"{OUT}/benchmarks/download/{{chromosome}}.tsv"
    conda:
        "../envs/genodiff.yaml"
    shell:
        "(python {params.fetch:q} {params.url:q} {output:q} {params.checksum} && bcftools index -f -t {output:q})"
        " > {log:q} 2>&1"


rule download_panel:
    input:
        manifest_of(PANEL),
    output:
        f"{OUT}/download/panel.tsv",
    params:
        url=url_of(PANEL),
        checksum=checksum_of(PANEL, f"{OUT}/download/manifest"),
        fetch=FETCH,
    retries: 2
    log:
        f"{OUT}/logs/download/panel.log",
    shell:
        "python {params.fetch:q} {params.url:q} {output:q} {params.checksum} > {log:q} 2>&1"
