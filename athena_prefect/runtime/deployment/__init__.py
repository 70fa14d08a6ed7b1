"""Plans on a Prefect server: what should be there, what is, and what to change.

`desired` computes the first from plans alone, `remote` reads the second,
`changes` compares them; nothing is written before all three are known.
"""
