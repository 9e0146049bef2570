# Every chromosome is judged by itself, then all of them together, then the runs beside one another.


rule split:
    input:
        vcf=vcf_of,
        names=f"{OUT}/people/{{side}}.txt",
        sites=f"{OUT}/chromosomes/{{run}}/{{chromosome}}/synthetic.vcf.gz",
    output:
        f"{OUT}/chromosomes/{{run}}/{{chromosome}}/{{side}}.vcf.gz",
    wildcard_constraints:
        side="train|holdout",
    threads: cores("split")
    resources:
        mem_mb=resource("split", "mem_mb"),
        runtime=resource("split", "runtime"),
    log:
        f"{OUT}/logs/split/{{run}}/{{chromosome}}.{{side}}.log",
    benchmark:
        f"{OUT}/benchmarks/split/{{run}}/{{chromosome}}.{{side}}.tsv"
    conda:
        "../envs/genodiff.yaml"
    shell:
        "bcftools view --threads {threads} -S {input.names:q} -T {input.sites:q} -m2 -M2 -Oz -o {output:q} {input.vcf:q}"
        " > {log:q} 2>&1"


rule judge:
    input:
        synthetic=f"{OUT}/chromosomes/{{run}}/{{chromosome}}/synthetic.vcf.gz",
        train=f"{OUT}/chromosomes/{{run}}/{{chromosome}}/train.vcf.gz",
        holdout=f"{OUT}/chromosomes/{{run}}/{{chromosome}}/holdout.vcf.gz",
        panel=f"{OUT}/people/panel.tsv",
        people=f"{OUT}/people/people.tsv",
    output:
        report=f"{OUT}/judged/{{chromosome}}/{{run}}/report.html",
        metrics=f"{OUT}/judged/{{chromosome}}/{{run}}/metrics.csv",
    params:
        folder=lambda wildcards, output: Path(output.report).parent,
        map=lambda wildcards: option("--map", CHROMOSOMES[wildcards.chromosome].get("map")),
        seed=config["seed"],
    threads: cores("judge")
    resources:
        mem_mb=resource("judge", "mem_mb"),
        runtime=resource("judge", "runtime"),
    log:
        f"{OUT}/logs/judge/{{run}}/{{chromosome}}.log",
    benchmark:
        f"{OUT}/benchmarks/judge/{{run}}/{{chromosome}}.tsv"
    conda:
        "../envs/genodiff.yaml"
    shell:
        "genodiff evaluate --synthetic {input.synthetic:q} --train {input.train:q} --holdout {input.holdout:q}"
        " --panel {input.panel:q} --synthetic-panel {input.people:q} {params.map} -o {params.folder:q}"
        " --seed {params.seed} --force --quiet > {log:q} 2>&1"


rule sheet:
    input:
        synthetic=expand(f"{OUT}/chromosomes/{{{{run}}}}/{{chromosome}}/synthetic.vcf.gz", chromosome=CHROMOSOMES),
        train=expand(f"{OUT}/chromosomes/{{{{run}}}}/{{chromosome}}/train.vcf.gz", chromosome=CHROMOSOMES),
        holdout=expand(f"{OUT}/chromosomes/{{{{run}}}}/{{chromosome}}/holdout.vcf.gz", chromosome=CHROMOSOMES),
        judged=expand(f"{OUT}/judged/{{chromosome}}/{{{{run}}}}/metrics.csv", chromosome=CHROMOSOMES),
    output:
        f"{OUT}/chromosomes/{{run}}/chromosomes.tsv",
    run:
        columns = [input.synthetic, input.train, input.holdout, [Path(path).parent for path in input.judged]]
        here = Path(output[0]).parent
        with open(output[0], "w", encoding="utf-8") as handle:
            handle.write("chromosome\tsynthetic\ttrain\tholdout\tjudged\n")
            for name, *paths in zip(CHROMOSOMES, *columns):
                handle.write("\t".join([name, *(os.path.relpath(path, here) for path in paths)]) + "\n")


rule genome:
    input:
        sheet=f"{OUT}/chromosomes/{{run}}/chromosomes.tsv",
        panel=f"{OUT}/people/panel.tsv",
        people=f"{OUT}/people/people.tsv",
    output:
        report=f"{OUT}/genome/{{run}}/report.html",
        metrics=f"{OUT}/genome/{{run}}/metrics.csv",
    params:
        folder=lambda wildcards, output: Path(output.report).parent,
        seed=config["seed"],
    threads: cores("genome")
    resources:
        mem_mb=resource("genome", "mem_mb"),
        runtime=resource("genome", "runtime"),
    log:
        f"{OUT}/logs/genome/{{run}}.log",
    benchmark:
        f"{OUT}/benchmarks/genome/{{run}}.tsv"
    conda:
        "../envs/genodiff.yaml"
    shell:
        "genodiff genome {input.sheet:q} -o {params.folder:q} --panel {input.panel:q}"
        " --synthetic-panel {input.people:q} --title 'Synthetic genomes, run {wildcards.run}' --seed {params.seed}"
        " --force --quiet > {log:q} 2>&1"


def compared(_):
    """The folder of metrics of every run: of all chromosomes together, or of the only one."""
    if len(CHROMOSOMES) > 1:
        return expand(f"{OUT}/genome/{{run}}/metrics.csv", run=RUNS)
    return expand(f"{OUT}/judged/{{chromosome}}/{{run}}/metrics.csv", chromosome=CHROMOSOMES, run=RUNS)


rule compare:
    input:
        compared,
    output:
        f"{OUT}/compare/comparison.html",
    params:
        folders=lambda wildcards, input: [Path(path).parent for path in input],
        folder=f"{OUT}/compare",
    threads: cores("compare")
    resources:
        mem_mb=resource("compare", "mem_mb"),
        runtime=resource("compare", "runtime"),
    log:
        f"{OUT}/logs/compare.log",
    benchmark:
        f"{OUT}/benchmarks/compare.tsv"
    conda:
        "../envs/genodiff.yaml"
    shell:
        "genodiff compare {params.folders:q} -o {params.folder:q} --force > {log:q} 2>&1"
