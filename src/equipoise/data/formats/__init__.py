"""Row formats, one file for each kind of layout; `registry` lists them all.

pairs         TRL's pairs                         named_pairs     pairs under other libraries' column names
comparisons   two answers and a verdict           rounds          a run's own judged rounds
ranked        ranked and scored lists             unpaired        single answers with a label, steps of a solution
prompts       prompts and conversations           demonstrations  prompts with the answer to imitate

format        what a format is                    columns         names and value shapes that formats share
asked         the turns before an answer          answers         prompts and answers as chat turns
roles         names of roles, tool calls          in_chat         strings as turns, system prompts
parse_values  values to messages, labels, numbers judged          scores and soft labels of pairs
prompt_cut    where an implicit prompt ends       answer_like     columns that look like answers or a judgement
detect        which format a file has             hints           what to do where none fits
"""
