"""What is special about genomes: allele states, blocks along the chromosome, anchors from people, pairing."""
