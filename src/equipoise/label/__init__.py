"""A local page where people compare responses, two at a time and without the names of the systems that wrote them.

pairs     what is compared: pairs, lists, or two files of answers
plan      order, sides and repeats, drawn by seed for each rater
votes     the votes file: one JSON line for each key press, on the disk before the next question is shown
desk      which question a rater sees, what a press does, undo
markdown  responses as HTML in which nothing runs, loads or leads away
site      the pages and forms; guard: token, Host and Origin checked; server: at which address
summary   win rates, agreement of raters, of one with themselves, and with a judge
export    votes as training pairs
people    people as a run's oracle
"""
