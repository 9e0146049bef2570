"""What every metric means, and what is good, in words for a statistical geneticist."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["FAMILIES", "METRICS", "Entry"]


@dataclass(frozen=True)
class Entry:
    """A name a reader knows, and an explanation."""

    label: str
    text: str


FAMILIES: dict[str, Entry] = {
    "frequencies": Entry(
        "Frequencies", "Site by site, without regard to neighbours. Independent sites would pass most of them."
    ),
    "covariance": Entry(
        "Moments of dosages", "Distances between means, covariances and histograms of dosages 0, 1, 2."
    ),
    "ld": Entry("Linkage disequilibrium", "How alleles go together along the chromosome, in pairs and in triples."),
    "structure": Entry(
        "Structure", "Ancestry, diversity, and whether a classifier can tell synthetic people from real ones."
    ),
    "privacy": Entry(
        "Privacy",
        "What the synthetic people give away about the training people. The floor says how alike real people are who "
        "were drawn independently; being closer than that is copying.",
    ),
}
"""Families in the order of the page."""

METRICS: dict[str, Entry] = {
    "af_mae": Entry(
        "Allele frequency, mean absolute error",
        "Mean over sites of |frequency in synthetic − in held-out people|. The floor is sampling error; close to it "
        "is good.",
    ),
    "af_mae_rare": Entry(
        "Allele-frequency error, MAF < 5 %", "The same over sites that are rare among held-out people."
    ),
    "af_r": Entry("Allele frequency, correlation", "Pearson r over sites; near 1 for any sensible generator."),
    "af_r_rare": Entry("Allele-frequency correlation, MAF < 5 %", "The same over rare sites, where it can fail."),
    "genotype_frequency_mae": Entry(
        "Genotype frequency, mean absolute error",
        "Over the three genotypes of every site: right allele frequencies with wrong pairing of haplotypes show here.",
    ),
    "sfs_distance": Entry(
        "Allele-count spectrum, distance",
        "Total variation between site-frequency spectra, 0 to 1. Near the floor is good; a surplus of rare or of "
        "fixed sites raises it.",
    ),
    "fixed_share": Entry(
        "Fixed sites", "Share of sites with one allele only. Above the floor, rare alleles were lost."
    ),
    "mean_error": Entry("Mean of dosages, error", "Mean absolute difference of per-site means."),
    "sd_error": Entry(
        "Standard deviation of dosages, error", "Mean absolute difference of per-site standard deviations."
    ),
    "cov_frobenius": Entry(
        "Covariance, Frobenius distance",
        "Norm of the difference of the dosage covariance matrices: linkage and structure at once, common sites "
        "weighing most.",
    ),
    "corr_frobenius": Entry(
        "Correlation, Frobenius distance", "The same of correlations, so that rare sites weigh as much."
    ),
    "w2_per_site": Entry(
        "Dosage distribution, Wasserstein distance", "2-Wasserstein distance per site, mean over sites."
    ),
    "histogram_kl": Entry("Dosage histogram, divergence", "Kullback–Leibler divergence per site, mean over sites."),
    "ld_decay_mae": Entry(
        "LD decay, mean absolute error",
        "Mean over distance bins of the difference of mean r². Up to a few times the floor, no analysis by distance "
        "will notice.",
    ),
    "ld_decay_mae_cm": Entry("LD decay by genetic distance, error", "The same with distances in centimorgan."),
    "near_pair_r2_corr": Entry(
        "Near pairs, correlation of r²",
        "Over pairs of common sites at most 50 sites apart: is it the same pairs that are linked?",
    ),
    "near_pair_r2_ratio": Entry(
        "Near pairs, ratio of r²",
        "Sum of r² in synthetic over held-out people. Below 1 linkage is too weak, above 1 too strong.",
    ),
    "three_point_r": Entry(
        "Three-point correlation",
        "Third central moments of triples of near sites, synthetic against held-out. A Gaussian model with every "
        "pair right fails here.",
    ),
    "three_point_slope": Entry("Three-point slope", "Slope of the same comparison; below 1, haplotypes are blurred."),
    "pca_w2": Entry(
        "Principal components, Wasserstein distance",
        "Exact 2-Wasserstein distance in the first six components of held-out people, in standard deviations of the "
        "first.",
    ),
    "precision": Entry(
        "Precision", "Share of synthetic rows that lie where real ones do. Low: people nobody resembles."
    ),
    "recall": Entry(
        "Recall", "Share of held-out rows that lie where synthetic ones do. Low: kinds of people that were lost."
    ),
    "f_is": Entry(
        "Inbreeding coefficient F_IS",
        "Deficit of heterozygotes; positive in a mixture of populations (Wahlund). Drops to 0 where a person's two "
        "haplotypes are paired regardless of ancestry.",
    ),
    "heterozygosity": Entry("Heterozygosity", "Mean share of heterozygous people per site."),
    "f_st": Entry("F_ST, synthetic against held-out", "Hudson's estimate; 0 where both come from one population."),
    "population_f_st_mae": Entry(
        "F_ST between populations, error",
        "Mean absolute difference of pairwise F_ST: are populations as far apart as they should be?",
    ),
    "c2st_auc": Entry(
        "Classifier two-sample test, AUC",
        "A random forest told to separate synthetic from held-out rows, judged on rows it has not seen. .5: it cannot.",
    ),
    "aa_truth": Entry(
        "Adversarial accuracy, real half",
        "Share of held-out rows nearer to another held-out row than to any synthetic one. Above the floor: synthetic "
        "rows are too far from real ones; well below it: copies.",
    ),
    "aa_syn": Entry(
        "Adversarial accuracy, synthetic half",
        "Share of synthetic rows closer to another synthetic one than to any held-out row. Both halves are given, "
        "since .5 can be the mean of 1 and 0.",
    ),
    "privacy_loss": Entry(
        "Privacy loss",
        "Adversarial accuracy on held-out minus on all training people. Positive: synthetic rows lie nearer to the "
        "people they were learnt from. 0 is good, beyond what the floor shows to be mere numbers.",
    ),
    "privacy_loss_matched": Entry(
        "Privacy loss, equal numbers",
        "The same with equally few people in both terms: no drift from numbers, but it sees only a part of a leak.",
    ),
    "membership_auc": Entry(
        "Membership inference, AUC",
        "An attacker ranks people by their distance to the nearest synthetic row to tell who was in the training "
        "set. .5: no better than chance.",
    ),
    "membership_tpr": Entry(
        "Membership inference, found at 1 % error",
        "Share of training rows the same attacker finds while calling 1 % of the others training rows too: an average "
        "can hide the few who are exposed. .01: no better than chance.",
    ),
    "membership_person_auc": Entry(
        "Membership of people, AUC", "The same attack on people, each by the more exposed of their haplotypes."
    ),
    "membership_person_tpr": Entry("Membership of people, found at 1 % error", "The same of people."),
    "membership_ratio_auc": Entry(
        "Membership by density ratio, AUC",
        "An attacker who also holds people of the same population, here half of the held-out ones, asks whether the "
        "synthetic row nearest to somebody is nearer than theirs: common haplotypes no longer count as evidence.",
    ),
    "membership_ratio_tpr": Entry(
        "Membership by density ratio, found at 1 % error", "Training rows found while 1 % of the others are called too."
    ),
    "membership_ratio_person_auc": Entry("Membership of people by density ratio, AUC", "The same of people."),
    "membership_ratio_person_tpr": Entry(
        "Membership of people by density ratio, found at 1 % error", "The same of people."
    ),
    "singled_out": Entry(
        "People singled out",
        "Share of training people whom the density ratio exposes more than anybody among a crowd of others (a third as "
        "many as were held out). The floor is chance; above it somebody stands out who should not.",
    ),
    "copied_run_cm_mean": Entry(
        "Copied run, mean, by genetic distance",
        "The longest such run in centimorgan: what a genealogist would measure.",
    ),
    "copied_run_cm_max": Entry(
        "Copied run, longest, by genetic distance", "The longest in centimorgan, expected in equally many rows."
    ),
    "kinship_mean": Entry(
        "Kinship with the nearest training person, mean",
        "KING-robust φ: over a genome ½ for oneself, ¼ for a parent, 1/16 for a first cousin. In a region strangers "
        "reach far more, so that the floor, real strangers, is what counts.",
    ),
    "kinship_max": Entry(
        "Kinship with the nearest training person, largest", "The largest, expected among equally many people."
    ),
    "kinship_cousins": Entry(
        "Kin as near as first cousins", "Share of synthetic people with a training person at φ ≥ 1/16 or more."
    ),
    "kinship_twins": Entry(
        "Kin as near as twins", "Share of synthetic people with a training person at φ ≥ .354, the bound for twins."
    ),
    "rare_allele_auc": Entry(
        "Rare alleles guessed, AUC",
        "An attacker who knows a training person's common sites guesses their alleles of less than 5 % from the ten "
        "nearest synthetic rows. High for anybody, since rare alleles travel on long haplotypes.",
    ),
    "rare_allele_advantage": Entry(
        "Rare alleles guessed, advantage over strangers",
        "The same minus the AUC on held-out people at the same sites: what is learnt of a person only because they "
        "were learnt from. 0 is good.",
    ),
    "copied_run_mean": Entry(
        "Copied run, mean",
        "Longest run of consecutive sites a synthetic row shares with any one training row, mean over rows. At or "
        "below the floor, which is the same for held-out people: no more is shared than strangers share.",
    ),
    "copied_run_median": Entry("Copied run, median", "The same, median."),
    "copied_run_max": Entry("Copied run, longest", "The longest such run, expected in equally many rows."),
    "copied_run_holdout": Entry(
        "Run shared with held-out people",
        "The same run with people the model has not seen; the floor is that of training people.",
    ),
    "dcr_median": Entry(
        "Distance to the closest training row, median", "Below the floor: closer to training people than strangers are."
    ),
    "dcr_p05": Entry(
        "Distance to the closest training row, 5th percentile", "The same for the closest twentieth of rows."
    ),
    "exact_copies": Entry(
        "Exact copies",
        "Share of synthetic rows identical to a training row. Short windows of common sites hold some by nature: see "
        "the floor.",
    ),
    "unique_share": Entry(
        "Unique rows", "Share of distinct rows among equally many. Below the floor: the model repeats itself."
    ),
}
"""Explanations by metric name; a metric that is not here is shown under its own name."""
