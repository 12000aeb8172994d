"""Raw files to tables: cells, genomes, annotations, variants, promoters."""
