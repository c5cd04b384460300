"""What methods share on the playground, whose model is a hundred-thousandth of the papers'.

Pair losses are flat along the total mass of the responses they compare. There the gradient is noise, Adam makes
full steps of it, and mass leaks out of the grammar; an epsilon near the size of a real gradient entry stops that.
Every round begins with an optimizer without memory, whose first steps are the largest of all: methods of several
rounds take 1e-2 where 1e-3 let a seed go, and with it the mass outside falls from round to round.
"""

TINY = {
    "train.lr": 1e-3,
    "train.eps": 1e-3,
    "train.batch": 128,
    "train.micro_batch": 128,
    "sampling.max_new_tokens": 12,
    "sampling.batch": 64,
}

# for online methods that refit: a dozen optimizer steps a round, on 12 pairs or one group of 12 for each prompt
PAIR_ROUNDS = TINY | {
    "play.rounds": 10,
    "play.samples": 24,
    "play.pairing": "disjoint",
    "train.epochs": 3,
    "train.lr": 5e-4,
}
GROUP_ROUNDS = TINY | {
    "play.rounds": 10,
    "play.samples": 12,
    "play.pairing": "scored",
    "train.epochs": 3,
    "train.batch": 16,
}

# for methods whose rounds are a few gradient steps: many short rounds, evaluated now and then
MANY_STEPS = TINY | {
    "play.rounds": 40,
    "train.batch": 36,
    "train.schedule": "constant",
    "train.warmup": 0.0,
    "evaluate.every": 10,
}
PAIR_STEPS = MANY_STEPS | {"play.samples": 4, "play.pairing": "disjoint", "train.batch": 64}

# the playground's figures are those of the policy itself
UNTRUNCATED = {"sampling.temperature": 1.0, "sampling.top_k": 0, "sampling.top_p": 1.0}
