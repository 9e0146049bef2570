"""Several chromosomes of the same people: windows to learn apart, who the people are, whether they fit together."""
