# What is said once of all the data: windows of every chromosome, who is learned from, who is to be made.


def vcf_of(wildcards):
    entry = CHROMOSOMES[wildcards.chromosome]
    return entry.get("vcf", f"{OUT}/download/chr{wildcards.chromosome}.vcf.gz")


def panel_of(_):
    if "panel" in config:
        return [config["panel"]]
    return [f"{OUT}/download/panel.tsv"] if "download" in config else []


checkpoint survey:
    input:
        vcf=vcf_of,
    output:
        windows=f"{OUT}/survey/{{chromosome}}/windows.tsv",
        unlinked=f"{OUT}/survey/{{chromosome}}/unlinked.vcf.gz",
    params:
        folder=lambda wildcards, output: Path(output.windows).parent,
        region=lambda wildcards: option("--region", CHROMOSOMES[wildcards.chromosome].get("region")),
        sites=config["windows"]["sites"],
        maf=config["windows"]["maf"],
    threads: cores("survey")
    resources:
        mem_mb=resource("survey", "mem_mb"),
        runtime=resource("survey", "runtime"),
    log:
        f"{OUT}/logs/survey/{{chromosome}}.log",
    benchmark:
        f"{OUT}/benchmarks/survey/{{chromosome}}.tsv"
    conda:
        "../envs/genodiff.yaml"
    shell:
        "genodiff survey {input.vcf:q} -o {params.folder:q} {params.region} --window-sites {params.sites}"
        " --maf {params.maf} --force --quiet > {log:q} 2>&1"


def people_options(_):
    wanted = config["people"]
    labels = ",".join(f"{label}={count}" for label, count in wanted.get("labels", {}).items()) or None
    return " ".join(
        [
            option("--panel-column", config.get("panel_column")),
            option("--holdout", config.get("holdout")),
            option("--holdout-samples", config.get("holdout_samples")),
            option("--samples", wanted.get("samples")),
            option("--labels", labels),
            option("--least", wanted["least"]),
        ]
    )


rule people:
    input:
        vcfs=expand(f"{OUT}/survey/{{chromosome}}/unlinked.vcf.gz", chromosome=CHROMOSOMES),
        panel=panel_of,
        holdout=[config["holdout_samples"]] if "holdout_samples" in config else [],
    output:
        panel=f"{OUT}/people/panel.tsv",
        people=f"{OUT}/people/people.tsv",
        train=f"{OUT}/people/train.txt",
        holdout=f"{OUT}/people/holdout.txt",
        groups=f"{OUT}/people/groups.tsv",
    params:
        folder=f"{OUT}/people",
        panel=lambda wildcards, input: option("--panel", input.panel[0] if input.panel else None),
        options=people_options,
        seed=config["seed"],
    threads: cores("people")
    resources:
        mem_mb=resource("people", "mem_mb"),
        runtime=resource("people", "runtime"),
    log:
        f"{OUT}/logs/people.log",
    benchmark:
        f"{OUT}/benchmarks/people.tsv"
    conda:
        "../envs/genodiff.yaml"
    shell:
        "genodiff people {input.vcfs:q} -o {params.folder:q} {params.panel} {params.options} --seed {params.seed}"
        " --force --quiet > {log:q} 2>&1"
