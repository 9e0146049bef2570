# Every window of every chromosome is learned and drawn by itself, with the same lists of people; then put together.


def windows_of(chromosome):
    """Region by name of the window, as the survey found them."""
    path = checkpoints.survey.get(chromosome=chromosome).output.windows
    lines = [line.split("\t") for line in Path(path).read_text(encoding="utf-8").splitlines()[1:]]
    return {fields[0]: fields[1] for fields in lines}


def fit_options(wildcards):
    run = RUNS[wildcards.run]
    own = {name: run.get(name) for name in ("preset", "steps", "anchors", "maf", "device")}
    return " ".join(
        [
            *(option(f"--{name}", value) for name, value in own.items()),
            option("--map", CHROMOSOMES[wildcards.chromosome].get("map")),
        ]
    )


rule fit:
    input:
        vcf=vcf_of,
        windows=f"{OUT}/survey/{{chromosome}}/windows.tsv",
        panel=f"{OUT}/people/panel.tsv",
        holdout=f"{OUT}/people/holdout.txt",
    output:
        f"{OUT}/windows/{{run}}/{{chromosome}}/{{window}}/model/model.json",
        f"{OUT}/windows/{{run}}/{{chromosome}}/{{window}}/model/sites.json",
        f"{OUT}/windows/{{run}}/{{chromosome}}/{{window}}/model/weights.safetensors",
    params:
        folder=lambda wildcards, output: Path(output[0]).parent,
        region=lambda wildcards: windows_of(wildcards.chromosome)[wildcards.window],
        options=fit_options,
        seed=lambda wildcards: seed_of("fit", wildcards.chromosome, wildcards.window),
    threads: cores("fit")
    resources:
        mem_mb=resource("fit", "mem_mb"),
        runtime=resource("fit", "runtime"),
    log:
        f"{OUT}/logs/fit/{{run}}/{{chromosome}}.{{window}}.log",
    benchmark:
        f"{OUT}/benchmarks/fit/{{run}}/{{chromosome}}.{{window}}.tsv"
    conda:
        "../envs/genodiff.yaml"
    shell:
        "genodiff fit {input.vcf:q} -o {params.folder:q} --region {params.region:q}"
        " --panel {input.panel:q} --panel-column group --panel-parent label --holdout-samples {input.holdout:q}"
        " {params.options} --seed {params.seed} --threads {threads} --force --quiet > {log:q} 2>&1"


rule sample:
    input:
        model=rules.fit.output,
        people=f"{OUT}/people/people.tsv",
    output:
        vcf=f"{OUT}/windows/{{run}}/{{chromosome}}/{{window}}/synthetic.vcf.gz",
        index=f"{OUT}/windows/{{run}}/{{chromosome}}/{{window}}/synthetic.vcf.gz.tbi",
    params:
        model=lambda wildcards, input: Path(input.model[0]).parent,
        device=lambda wildcards: option("--device", RUNS[wildcards.run].get("device")),
        seed=lambda wildcards: seed_of("sample", wildcards.chromosome, wildcards.window),
    threads: cores("sample")
    resources:
        mem_mb=resource("sample", "mem_mb"),
        runtime=resource("sample", "runtime"),
    log:
        f"{OUT}/logs/sample/{{run}}/{{chromosome}}.{{window}}.log",
    benchmark:
        f"{OUT}/benchmarks/sample/{{run}}/{{chromosome}}.{{window}}.tsv"
    conda:
        "../envs/genodiff.yaml"
    shell:
        "genodiff sample {params.model:q} -o {output.vcf:q} --people {input.people:q} --people-column group"
        " {params.device} --seed {params.seed} --threads {threads} --force --quiet > {log:q} 2>&1"


def windows_sampled(wildcards):
    folder = f"{OUT}/windows/{wildcards.run}/{wildcards.chromosome}"
    return [f"{folder}/{window}/synthetic.vcf.gz" for window in windows_of(wildcards.chromosome)]


rule gather:
    input:
        windows_sampled,
    output:
        vcf=f"{OUT}/chromosomes/{{run}}/{{chromosome}}/synthetic.vcf.gz",
        index=f"{OUT}/chromosomes/{{run}}/{{chromosome}}/synthetic.vcf.gz.tbi",
    threads: cores("gather")
    resources:
        mem_mb=resource("gather", "mem_mb"),
        runtime=resource("gather", "runtime"),
    log:
        f"{OUT}/logs/gather/{{run}}/{{chromosome}}.log",
    benchmark:
        f"{OUT}/benchmarks/gather/{{run}}/{{chromosome}}.tsv"
    conda:
        "../envs/genodiff.yaml"
    shell:
        # bcftools refuses windows of other people, or of the same people in another order.
        "(bcftools concat --threads {threads} -Oz -o {output.vcf:q} {input:q} && bcftools index -f -t {output.vcf:q})"
        " > {log:q} 2>&1"
