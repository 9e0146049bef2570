"""``python -m imaging`` and ``genodiff imaging``: options in, one call of the library each.

Nothing heavy is imported before a command runs. ``genodiff`` finds this group by the entry point
``genodiff.commands`` of the distribution, so that neither package imports the other's command line.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import click

from imaging.options import (
    PATH,
    Commands,
    Real,
    SetName,
    Widths,
    config_of,
    data_options,
    gain_option,
    limit_threads,
    method_option,
    model_path_option,
    output_options,
    say_trained,
    seed_option,
    show_bars,
    source_of,
    subspaces_option,
    threads_option,
    training_options,
)

if TYPE_CHECKING:
    from imaging import fp, spde

__all__ = ["main"]

_LIKELY = ("vp", "fp-noise", "fp-drift", "fp", "cld")
_FIELDS = ("vp-sde", "flow", "blurring", "edge-noise", "spde-isotropic", "spde-drift", "spde-noise", "spde")
_LEARNED = ("fp-noise", "fp-drift", "fp")
_MEANT: dict[str, tuple[str, ...]] = {
    "jointly": _LEARNED,
    "rank": _LEARNED,
    "autoencoder": _FIELDS,
    "smoothing": ("spde-isotropic", "spde-drift", "spde-noise", "spde"),
    "edge": ("edge-noise", "spde-drift", "spde-noise", "spde"),
    "length": ("vp-sde", "edge-noise", "spde-isotropic", "spde-drift", "spde-noise", "spde"),
}
"""The processes that an option of ``train`` is for."""


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
def main() -> None:
    """Image diffusion with learned, anisotropic noise schedules.

    \b
    Examples:
      genodiff imaging train --data fashion-mnist -o edm/
      genodiff imaging learn-schedule edm/ -o ani/ && genodiff imaging learn-time ani/ -o ani-time/
      genodiff imaging sample ani-time/ -n 10000 --steps 5 -o few.npz
      genodiff imaging evaluate few.npz --data fashion-mnist -o judged/
    """


@main.command()
@data_options
@click.option("-o", "--output", type=PATH, required=True, help="Folder for the model.")
@click.option(
    "--process",
    type=click.Choice(["edm", *_LIKELY, *_FIELDS]),
    metavar="NAME",
    default="edm",
    show_default=True,
    help="The forward process, one of those below; of vp, fp-… and cld a likelihood can be given.",
)
@click.option(
    "--precision",
    type=click.Choice(["float32", "bfloat16"]),
    default="float32",
    show_default=True,
    help="Numbers in which the network is multiplied in training; bfloat16 is faster where the processor has it.",
)
@click.option(
    "--jointly",
    type=Real(0, 1),
    default=0.5,
    show_default=True,
    help="Share of the steps, at the start, in which a process of fp-… is learned with the network; 1 is all.",
)
@click.option(
    "--rank",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    help="Rank of a learned rotation of the basis of cosines, for a process of fp-….",
)
@click.option(
    "--autoencoder",
    type=PATH,
    help="File from train-autoencoder or folder of an AutoencoderKL: learn its latents (flow, spde-… and the like).",
)
@click.option(
    "--smoothing",
    type=Real(min=0),
    default=8.0,
    show_default=True,
    help="How strongly a process of spde-… smooths, pixels² per unit of log noise.",
)
@click.option(
    "--edge",
    type=Real(min=0, min_open=True),
    default=0.1,
    show_default=True,
    help="Gradient, in units of an image's mean, that counts as an edge for spde-… and edge-noise.",
)
@click.option(
    "--length",
    type=Real(min=0),
    default=0.0,
    show_default=True,
    help="Pixels over which the noise of vp-sde, spde-… and edge-noise is alike.",
)
@training_options
@click.option(
    "--widths",
    type=Widths(),
    default="32,64,128",
    show_default=True,
    help="Channels of the U-Net at each resolution, finest first.",
)
@click.option(
    "--blocks",
    type=click.IntRange(min=1),
    default=2,
    show_default=True,
    help="Residual blocks at each resolution, down and up.",
)
@click.option(
    "--patch",
    type=click.IntRange(min=1),
    default=2,
    show_default=True,
    help="Side of the squares of pixels that the first layer folds into channels.",
)
@seed_option
@threads_option
@output_options
@click.pass_context
def train(context: click.Context, output: Path, process: str, **o: Any) -> None:
    """Train a model from noise to images on one forward process.

    edm is the baseline of learned schedules (Karras et al. 2022): isotropic noise on a fixed schedule. The others leave
    N(0, I) as it is and are trained by a bound on the likelihood: vp adds noise alike to all frequencies; fp-noise
    learns how fast for each of them, fp-drift how pairs of them turn into each other, fp both; cld adds noise to
    velocities.

    spde smooths images and adds noise, and spares their edges in both; spde-drift spares them in smoothing alone,
    spde-noise in noise alone, spde-isotropic in neither. vp-sde has noise alone, edge-noise noise that spares edges,
    blurring another smoothing; flow is flow matching on straight lines. All of these are trained by denoising.

    An interrupted run goes on from its last checkpoint when the same command is given again.

    \b
    Examples:
      genodiff imaging train --data fashion-mnist -o edm/
      genodiff imaging train --data emoji --steps 40000 --widths 48,96,192 -o edm-emoji/
      genodiff imaging train --data mnist --size 28 --widths 24,48 --process fp-noise -o noise/
      genodiff imaging train --data emoji --process spde --smoothing 2 -o spde/
      genodiff imaging train --data cifar10 --data-path cifar-10-batches-bin --widths 128,256,256 -o edm-cifar/
    """
    for name, processes in _MEANT.items():
        said = context.get_parameter_source(name) is not click.core.ParameterSource.DEFAULT
        if said and process not in processes:
            raise click.UsageError(f"--{name} is for {', '.join(processes)}, not for --process {process}")
    limit_threads(o["threads"])
    from imaging import denoising, joint, runs
    from imaging.networks import UNetConfig

    network = UNetConfig(widths=o["widths"], blocks=o["blocks"], patch=o["patch"])
    common: dict[str, Any] = {
        "network": network, "seed": o["seed"], "precision": o["precision"], "force": o["force"],
        "progress": show_bars(o["quiet"]),
    }  # fmt: skip
    if process == "edm":
        result = runs.train_model(source_of(o), output, config=config_of(runs.TRAINING, o), **common)
    elif process in _FIELDS:
        result = denoising.train_field(
            source_of(o), output, process=cast("spde.Process", process), smoothing=o["smoothing"], edge=o["edge"],
            length=o["length"], autoencoder=o["autoencoder"], config=config_of(denoising.DENOISING, o), **common,
        )  # fmt: skip
    else:
        result = joint.train_flexible(
            source_of(o), output, process=cast("fp.Process", process), rank=o["rank"], jointly=o["jointly"],
            config=config_of(joint.EVIDENCE, o), **common,
        )  # fmt: skip
    say_trained(result, output)


@main.command("learn-schedule")
@click.argument("model", type=PATH)
@click.option("-o", "--output", type=PATH, required=True, help="Folder for the model with its schedule.")
@subspaces_option
@method_option
@click.option(
    "--score-correction/--no-score-correction",
    default=True,
    show_default=True,
    help="Account for the change of the score with the schedule.",
)
@click.option(
    "-c",
    "c",
    type=Real(1e-3, 1e3),
    default=1.0,
    show_default=True,
    help="Variance of the data in the objective.",
)
@gain_option
@training_options
@model_path_option
@seed_option
@threads_option
@output_options
def learn_schedule(model: Path, output: Path, method: str, **o: Any) -> None:
    """Learn a noise schedule for each band of frequency of a trained MODEL, by trajectory-level score matching.

    An interrupted run goes on from its last checkpoint when the same command is given again.

    \b
    Examples:
      genodiff imaging learn-schedule edm/ -o ani/
      genodiff imaging learn-schedule edm/ --subspaces 1 -o iso/
      genodiff imaging learn-schedule edm/ --method constant-speed --steps 1000 -o fitted/
    """
    limit_threads(o["threads"])
    from imaging import runs

    result = runs.learn_schedule(
        model, output, subspaces=o["subspaces"], constant_speed=method == "constant-speed",
        score_correction=o["score_correction"], c=o["c"], gain=o["gain"], config=config_of(runs.LEARNING, o),
        path=o["data_path"], seed=o["seed"], force=o["force"], progress=show_bars(o["quiet"]),
    )  # fmt: skip
    say_trained(result, output)


@main.command("learn-time")
@click.argument("model", type=PATH)
@click.option("-o", "--output", type=PATH, required=True, help="Folder for the model with its time.")
@click.option(
    "--window",
    type=Real(0, 1, min_open=True),
    default=0.125,
    show_default=True,
    help="Share of the whole time that one step is taken to have.",
)
@click.option(
    "--excess",
    type=Real(min=0),
    default=1.0,
    show_default=True,
    help="Weight of the score-matching loss beside the error of discretisation; 0 leaves it out.",
)
@gain_option
@training_options
@model_path_option
@seed_option
@threads_option
@output_options
def learn_time(model: Path, output: Path, **o: Any) -> None:
    """Learn where a sampler of MODEL should take its steps; network and schedule stay as they are.

    An interrupted run goes on from its last checkpoint when the same command is given again.

    \b
    Examples:
      genodiff imaging learn-time ani/ -o ani-time/
      genodiff imaging learn-time iso/ --steps 500 -o iso-time/
    """
    limit_threads(o["threads"])
    from imaging import runs

    result = runs.learn_time(
        model, output, window=o["window"], excess=o["excess"], gain=o["gain"], config=config_of(runs.LEARNING, o),
        path=o["data_path"], seed=o["seed"], force=o["force"], progress=show_bars(o["quiet"]),
    )  # fmt: skip
    say_trained(result, output)


@main.command()
@click.argument("model", type=PATH)
@click.option("-o", "--output", type=PATH, required=True, help="Folder for the model with its schedule and time.")
@subspaces_option
@method_option
@click.option(
    "--time-steps",
    type=click.IntRange(min=1),
    default=500,
    show_default=True,
    help="Training steps of the time; --steps are those of the schedule.",
)
@training_options
@model_path_option
@seed_option
@threads_option
@output_options
def learn(model: Path, output: Path, method: str, **o: Any) -> None:
    """Learn schedule and time of a trained MODEL in one go: learn-schedule, then learn-time (TOAD's Algorithm 1).

    An interrupted run goes on from its last checkpoint when the same command is given again.

    \b
    Examples:
      genodiff imaging learn edm/ -o ani-time/
      genodiff imaging learn edm/ --subspaces 1 --steps 2000 --time-steps 200 -o iso-time/
    """
    limit_threads(o["threads"])
    from imaging import runs

    result = runs.learn(
        model, output, subspaces=o["subspaces"], constant_speed=method == "constant-speed",
        config=config_of(runs.LEARNING, o), time_steps=o["time_steps"], path=o["data_path"], seed=o["seed"],
        force=o["force"], progress=show_bars(o["quiet"]),
    )  # fmt: skip
    say_trained(result, output)


@main.command()
@click.argument("model", type=PATH)
@click.option("-o", "--output", type=PATH, required=True, help="File to write the images to (.npz).")
@click.option(
    "-n", "--samples", "n", type=click.IntRange(min=1), default=64, show_default=True, help="Number of images."
)
@click.option(
    "--steps",
    type=click.IntRange(2, 1_000_000),
    default=18,
    show_default=True,
    help="Steps of the sampler; of models of edm and its schedules 5, 6, 7, 8, 10, 18 and 40 call the network 9, 11, "
    "13, 15, 19, 35 and 79 times.",
)
@click.option(
    "--sampler",
    type=click.Choice(["heun", "euler-maruyama", "ancestral", "bridge", "flow"]),
    help="For models of vp, fp-… and cld: the probability flow (heun, default), the reverse equation in equal steps "
    "(take 1,000), or the bridge through the posterior mean (ancestral, 100). For spde-… and what they are compared "
    "with: the bridge (default; take 50), or the flow (default of flow matching).",
)
@seed_option
@threads_option
@output_options
def sample(model: Path, output: Path, n: int, steps: int, sampler: str | None, **o: Any) -> None:
    """Draw images from a MODEL folder: an .npz of bytes, and a PNG of the first of them.

    \b
    Examples:
      genodiff imaging sample edm/ -o edm.npz
      genodiff imaging sample edm/ -n 10000 --steps 5 --seed 3 -o few.npz
      genodiff imaging sample noise/ --steps 1000 --sampler euler-maruyama -o noise.npz
    """
    limit_threads(o["threads"])
    from imaging import samples

    nfe = samples.sample_model(
        model, output, n=n, steps=steps, sampler=sampler, seed=o["seed"],
        force=o["force"], progress=show_bars(o["quiet"]),
    )  # fmt: skip
    click.echo(f"{n:,} images, the network called {nfe} times for each: {output}")


@main.command("stroke-to-image")
@click.argument("model", type=PATH)
@click.argument("pictures", type=PATH, required=False)
@click.option("-o", "--output", type=PATH, required=True, help="File to write images and strokes to (.npz).")
@click.option(
    "--level",
    type=Real(min=0, min_open=True),
    default=2.0,
    show_default=True,
    help="Noise to go forward to, in deviations of the data: more is more real, less is closer to the strokes.",
)
@click.option(
    "--steps", type=click.IntRange(min=2), default=18, show_default=True, help="Steps of the sampler on the way back."
)
@click.option(
    "--simulate",
    type=click.IntRange(min=1),
    help="Without PICTURES: how many test images of the model's data to simulate strokes from; else 16.",
)
@click.option(
    "--colours", type=click.IntRange(1, 256), default=6, show_default=True, help="Colours of a simulated drawing."
)
@click.option(
    "--width", type=click.IntRange(min=1), default=5, show_default=True, help="Width of its strokes in pixels."
)
@model_path_option
@seed_option
@threads_option
@output_options
def stroke_to_image(model: Path, pictures: Path | None, output: Path, simulate: int | None, **o: Any) -> None:
    """Make images of PICTURES that are drawn in coarse strokes, a file, folder or zip: noise on top, and taken back.

    Of a picture that is not square its middle is taken, of an animation its first frame; what is transparent is white.
    Writes an .npz of bytes with images and strokes, and a PNG with rows of strokes, each above what became of it.
    Faithfulness is the root mean square distance to the strokes, with values in [−1, 1].

    \b
    Examples:
      genodiff imaging stroke-to-image edm/ drawing.png -o image.npz
      genodiff imaging stroke-to-image edm/ drawings/ --level 4 --steps 40 -o images.npz
      genodiff imaging stroke-to-image noise/ --simulate 64 -o simulated.npz
    """
    if pictures is not None and simulate is not None:
        raise click.UsageError("--simulate makes strokes where no PICTURES are given")
    limit_threads(o["threads"])
    from imaging import strokes

    made = strokes.stroke_to_image(
        model, output, pictures=pictures, simulate=simulate or 16, colours=o["colours"], width=o["width"],
        level=o["level"], steps=o["steps"], path=o["data_path"], seed=o["seed"], force=o["force"],
        progress=show_bars(o["quiet"]),
    )  # fmt: skip
    click.echo(
        f"{len(made.images):,} images at a distance of {made.distance:.3f} from their strokes, "
        f"the network called {made.nfe} times for each: {output}"
    )


@main.command("train-autoencoder")
@data_options
@click.option("-o", "--output", type=PATH, required=True, help="File to write the weights to (.safetensors).")
@training_options
@click.option(
    "--widths",
    type=Widths(),
    default="32,64",
    show_default=True,
    help="Channels at each resolution, finest first; latents are as fine as the last.",
)
@click.option("--channels", type=click.IntRange(min=1), default=4, show_default=True, help="Channels of the latents.")
@seed_option
@threads_option
@output_options
def train_autoencoder(output: Path, **o: Any) -> None:
    """Train an autoencoder, in whose latents models may be trained instead of in pixels.

    An interrupted run goes on from its last checkpoint when the same command is given again. Where models of latents
    are trained, the folder of a diffusers AutoencoderKL may be given instead of such a file.

    \b
    Examples:
      genodiff imaging train-autoencoder --data fashion-mnist -o fmnist.safetensors
      genodiff imaging train-autoencoder --data emoji --widths 32,64,64 --channels 8 -o emoji.safetensors
    """
    limit_threads(o["threads"])
    from imaging import autoencoder

    made = autoencoder.train_autoencoder(
        source_of(o), output, config=autoencoder.AutoencoderConfig(o["widths"], o["channels"]),
        training=config_of(autoencoder.TRAINING, o), seed=o["seed"], force=o["force"], progress=show_bars(o["quiet"]),
    )  # fmt: skip
    latents = " × ".join(map(str, made.latent_shape))
    click.echo(f"latents {latents}, test images come back with an error of {made.error:.4f}: {output}")


@main.command("train-features")
@data_options
@click.option("-o", "--output", type=PATH, required=True, help="File to write the weights to (.safetensors).")
@click.option("--steps", type=click.IntRange(min=1), help="Training steps, instead of 1,500.")
@seed_option
@threads_option
@output_options
def train_features(output: Path, **o: Any) -> None:
    """Train the classifier in whose features sets of images are compared.

    An interrupted run goes on from its last checkpoint when the same command is given again.

    \b
    Examples:
      genodiff imaging train-features --data fashion-mnist -o fmnist.safetensors
      genodiff imaging train-features --data cifar10 --data-path cifar-10-batches-bin -o cifar10.safetensors
    """
    limit_threads(o["threads"])
    from imaging import runs

    accuracy = runs.train_features(
        source_of(o), output,
        steps=o["steps"], seed=o["seed"], force=o["force"], progress=show_bars(o["quiet"]),
    )  # fmt: skip
    click.echo(f"features that classify {accuracy:.1%} of the test images: {output}")


@main.command()
@click.argument("samples", type=PATH)
@data_options
@click.option("-o", "--output", type=PATH, required=True, help="Folder for metrics.csv, spectrum.png and samples.png.")
@click.option(
    "--features", help="Name of shipped features or a file from train-features; those of the set if not given."
)
@click.option("--fid-weights", type=PATH, help="Inception weights, for the true FID (needs torch-fidelity).")
@click.option("--likelihood", is_flag=True, help="Bits per dimension of test images under a model folder, instead.")
@click.option("-n", "--images", "n", type=click.IntRange(min=2), help="Test images for --likelihood; else 1,000.")
@seed_option
@threads_option
@output_options
@click.pass_context
def evaluate(context: click.Context, samples: Path, output: Path, likelihood: bool, n: int | None, **o: Any) -> None:
    """Judge SAMPLES, an .npz from sample, or a folder or zip of images, made by anything; or a model's likelihood.

    Fréchet distance in the features of a small classifier (never called FID), precision, recall and power by frequency,
    each with its floor: the same figure for real images held out.

    \b
    Examples:
      genodiff imaging evaluate samples.npz --data fashion-mnist -o judged/
      genodiff imaging evaluate images/ --data folder --data-path photos/ --features my.safetensors -o judged/
      genodiff imaging evaluate noise/ --likelihood -n 1000 -o bits/
    """
    limit_threads(o["threads"])
    if likelihood:
        for name in ("data", "size", "features", "fid_weights"):
            if context.get_parameter_source(name) is not click.core.ParameterSource.DEFAULT:
                option = name.replace("_", "-")
                raise click.UsageError(f"--{option} does not go with --likelihood: the model knows its data")
        from imaging.likelihood import evaluate_likelihood

        bits = evaluate_likelihood(
            samples, output, n=n or 1000, path=o["data_path"], seed=o["seed"], force=o["force"],
            progress=show_bars(o["quiet"]),
        )  # fmt: skip
        click.echo(f"{bits}\nfolder: {output}")
        return
    if n is not None:
        raise click.UsageError("-n goes with --likelihood: all SAMPLES are judged otherwise")
    from imaging.samples import evaluate as judge

    table = judge(
        samples, source_of(o), output, features=o["features"],
        fid_weights=o["fid_weights"], seed=o["seed"], force=o["force"],
    )  # fmt: skip
    click.echo(f"{table}\nfolder: {output}")


@main.command()
@click.argument("what", type=click.Choice(["toad", "fp", "spde"]))
@click.option("-o", "--output", type=PATH, required=True, help="Folder for the page, its tables, figures and models.")
@click.option("--quick", is_flag=True, help="Minutes: small networks, few images.")
@click.option("--full", is_flag=True, help="Hours to days, all seeds.")
@click.option("--data", type=SetName(), multiple=True, help="Set of images, may be repeated; else those of the page.")
@click.option("-n", "--samples", type=click.IntRange(min=8), help="Images drawn for a cell, instead of the default.")
@click.option("--seeds", type=click.IntRange(min=1), help="Seeds (toad: of sampling), instead of the default.")
@click.option("--from-weights", is_flag=True, help="toad: train nothing, use the models that are shipped.")
@seed_option
@threads_option
@click.option("--quiet", is_flag=True, help="No progress bars.")
def reproduce(what: str, output: Path, quick: bool, full: bool, data: tuple[str, ...], **o: Any) -> None:
    """Repeat the tables and figures of a paper in small.

    toad: trajectory-optimal anisotropic diffusion, table 1 and figures 1 to 4. fp: flexible forward processes, tables 1
    and 2 and figures 2, 5 and 7. spde: anisotropic fields beside flow matching and others, in pixels, in latents and
    from strokes. An interrupted run goes on when the same command is given again: all that is done is kept in .stages
    of the folder.

    \b
    Examples:
      genodiff imaging reproduce toad --quick -o toad/
      genodiff imaging reproduce toad --full -o toad/
      genodiff imaging reproduce toad --full --from-weights -n 1000 --seeds 1 -o toad/
      genodiff imaging reproduce fp --quick -o fp/
      genodiff imaging reproduce spde --full --data emoji -o spde/
    """
    if quick == full:
        raise click.UsageError("give --quick or --full, and not both")
    extent = "quick" if quick else "full"
    if o["from_weights"] and what != "toad":
        raise click.UsageError("--from-weights: models are shipped for toad alone")
    limit_threads(o["threads"])
    from imaging.reproduce import fp, spde, toad

    said = {key: o[key] for key in ("samples", "seeds") if o[key] is not None}
    given = [*(("data", name) for name in data), *said.items()]
    options = [f"--{extent}", *(f"--{key} {value}" for key, value in given)]
    command = " ".join([
        f"genodiff imaging reproduce {what}", *options, *["--from-weights"] * o["from_weights"],
        f"--seed {o['seed']} -o {output.name}/",
    ])  # fmt: skip
    common: dict[str, Any] = {"command": command, "progress": show_bars(o["quiet"])}
    if what == "toad":
        page = toad.reproduce(
            output, toad.settings_of(extent, data, seed=o["seed"], **said),
            weights=toad.WEIGHTS if o["from_weights"] else None, **common,
        )  # fmt: skip
    elif what == "fp":
        page = fp.reproduce(output, fp.settings_of(extent, data, seed=o["seed"], **said), **common)
    else:
        page = spde.reproduce(output, spde.settings_of(extent, data, seed=o["seed"], **said), **common)
    click.echo(f"page: {page}")
