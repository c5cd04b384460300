"""Row formats, one file for each kind: pairs, unpaired, prompts, ranked. `registry` lists them all.

format        what a format is                    columns   names and value shapes that formats share
parse_values  values to messages, labels, numbers  answers   prompts and answers as chat turns
prompt_cut    where an implicit prompt ends        detect    which format a file has
"""
