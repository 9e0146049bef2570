# The judgement alone, of synthetic people that somebody else made:
#
#   snakemake -s workflows/evaluate.smk --cores 2 --configfile mine.yaml
#
# A page per chromosome, and one of all chromosomes where there are several.

from pathlib import Path

from snakemake.utils import min_version

min_version("9.0")


include: "rules/common.smk"

config = checked(config, workflow.source_path("evaluate.schema.yaml"))
OUT = config["output"].rstrip("/")
CHROMOSOMES = config["chromosomes"]
PANELS = [config[name] for name in ("panel", "synthetic_panel") if name in config]
require_programs("genodiff")
faults = sex_chromosomes(config, "run genodiff evaluate --sex on it by itself") + twice(config) + absent_files(config)
if faults:
    refuse(faults)


wildcard_constraints:
    chromosome=one_of(CHROMOSOMES),


localrules:
    all,
    sheet,


rule all:
    default_target: True
    input:
        expand(f"{OUT}/judged/{{chromosome}}/report.html", chromosome=CHROMOSOMES),
        [f"{OUT}/genome/report.html"] if len(CHROMOSOMES) > 1 else [],


def panels(_):
    return " ".join(
        [option("--panel", config.get("panel")), option("--synthetic-panel", config.get("synthetic_panel"))]
    )


rule judge:
    input:
        PANELS,
        synthetic=lambda wildcards: CHROMOSOMES[wildcards.chromosome]["synthetic"],
        train=lambda wildcards: CHROMOSOMES[wildcards.chromosome]["train"],
        holdout=lambda wildcards: CHROMOSOMES[wildcards.chromosome]["holdout"],
    output:
        report=f"{OUT}/judged/{{chromosome}}/report.html",
        metrics=f"{OUT}/judged/{{chromosome}}/metrics.csv",
    params:
        folder=lambda wildcards, output: Path(output.report).parent,
        panels=panels,
        map=lambda wildcards: option("--map", CHROMOSOMES[wildcards.chromosome].get("map")),
        region=lambda wildcards: option("--region", CHROMOSOMES[wildcards.chromosome].get("region")),
        maf=config["maf"],
        seed=config["seed"],
    threads: cores("judge")
    resources:
        mem_mb=resource("judge", "mem_mb"),
        runtime=resource("judge", "runtime"),
    log:
        f"{OUT}/logs/judge/{{chromosome}}.log",
    benchmark:
        f"{OUT}/benchmarks/judge/{{chromosome}}.tsv"
    conda:
        "envs/genodiff.yaml"
    shell:
        "genodiff evaluate --synthetic {input.synthetic:q} --train {input.train:q} --holdout {input.holdout:q}"
        " {params.panels} {params.map} {params.region} --maf {params.maf} -o {params.folder:q} --seed {params.seed}"
        " --force --quiet > {log:q} 2>&1"


rule sheet:
    input:
        expand(f"{OUT}/judged/{{chromosome}}/metrics.csv", chromosome=CHROMOSOMES),
    output:
        f"{OUT}/chromosomes.tsv",
    run:
        with open(output[0], "w", encoding="utf-8") as handle:
            handle.write("chromosome\tsynthetic\ttrain\tholdout\tjudged\n")
            for (name, entry), metrics in zip(CHROMOSOMES.items(), input):
                paths = [*(entry[side] for side in ("synthetic", "train", "holdout")), Path(metrics).parent]
                handle.write("\t".join([name, *(os.path.relpath(path, OUT) for path in paths)]) + "\n")


rule genome:
    input:
        PANELS,
        sheet=f"{OUT}/chromosomes.tsv",
    output:
        report=f"{OUT}/genome/report.html",
        metrics=f"{OUT}/genome/metrics.csv",
    params:
        folder=f"{OUT}/genome",
        panels=lambda wildcards: panels(wildcards) if len(PANELS) == 2 else "",
        seed=config["seed"],
    threads: cores("genome")
    resources:
        mem_mb=resource("genome", "mem_mb"),
        runtime=resource("genome", "runtime"),
    log:
        f"{OUT}/logs/genome.log",
    benchmark:
        f"{OUT}/benchmarks/genome.tsv"
    conda:
        "envs/genodiff.yaml"
    shell:
        "genodiff genome {input.sheet:q} -o {params.folder:q} {params.panels} --seed {params.seed}"
        " --force --quiet > {log:q} 2>&1"
