"""Preference data: files in; records, token ids and a ledger of every row out. Modules are imported by name.

read       files to records (a `Dataset`); read_files: raw rows; formats/: row formats, one file for each kind
records    the record of one row; ledger: every row accounted for; errors: DataError and Refusal
split      train and held-out parts that share no prompt
render     records to token ids; templates and tokens: chat templates and tokenizer conventions
collate    padded batches; pack: packed batches with shared prompts
report     `equipoise data check`

ranked_lists, content_removal, rationale_prompt and revision_prompt prepare the data of single families of methods.
"""
