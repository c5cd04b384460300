"""DPO is derived from a reverse-KL penalty, which favours few responses over diversity. f-DPO (2309.16240)
repeats the derivation for other f-divergences from the initial policy: Jensen-Shannon, forward KL and
alpha-divergences.
"""

from dataclasses import replace

from equipoise.core.objectives import AlphaDpo, ForwardKlDpo, JensenShannonDpo
from equipoise.methods.dpo import DPO

BETAS = "authors' code; 0.1 to 0.9 on dialogues"

F_DPO_JS = replace(
    DPO,
    name="f_dpo_js",
    title="f-DPO, Jensen-Shannon divergence",
    paper="2309.16240",
    objective=JensenShannonDpo(beta=0.1),
    sources={**DPO.sources, "beta": BETAS, "warmup": "ours; the authors warm up for 150 steps"},
    notes="With the reverse KL f-DPO is DPO. A divergence of your own is `FDpo(link=...)` in Python: its derivative "
    "as a function of the log-ratio.",
)

F_DPO_FORWARD_KL = replace(
    F_DPO_JS,
    name="f_dpo_forward_kl",
    title="f-DPO, forward KL",
    objective=ForwardKlDpo(beta=0.1),
    notes="The push on a rejected response grows like pi_ref/pi as it disappears: keep train.clip.",
)

F_DPO_ALPHA = replace(
    F_DPO_JS,
    name="f_dpo_alpha",
    title="f-DPO, alpha-divergence",
    objective=AlphaDpo(beta=0.1, alpha=0.5),
    sources={**DPO.sources, "beta": BETAS, "alpha": "authors' code: 0.3, 0.5 and 0.7"},
    notes="Alpha is the paper's; TRL's coefficient is 1 - alpha.",
)
