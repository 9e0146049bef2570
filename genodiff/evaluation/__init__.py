"""How synthetic genotypes are judged: frequencies, covariance, linkage, structure, privacy, each with its floor."""
