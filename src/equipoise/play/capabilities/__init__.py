"""Optional capabilities of a world: each small protocol serves one family of methods.

A component of a method names those that it uses (`Component.capabilities`). A world that lacks one is refused before
anything is played (`check`), in one sentence made from the protocol's first line.
"""

from equipoise.play.capabilities.generation import (
    PassTables,
    PromptTemplates,
    RandomDraws,
    SegmentRewriting,
    SelfWrittenTests,
    Step,
    StepContinuation,
    StepCut,
    TeacherResponses,
)
from equipoise.play.capabilities.judging import (
    LearnedRewards,
    Meanings,
    NamedScores,
    OracleVotes,
    ResponseRewards,
    RewardData,
    RewardModels,
    RunCache,
    SelfEvaluation,
    SetRewards,
)
from equipoise.play.capabilities.policies import (
    AuxiliaryModels,
    Critics,
    LiveReferences,
    ParameterAverages,
    Perturbations,
)
from equipoise.play.capabilities.required import check, needing
from equipoise.play.capabilities.responses import BothRoles, Degradations, MismatchedPrompts, ResponseTexts
from equipoise.play.capabilities.scoring import (
    Activations,
    LossEvaluation,
    PromptFeatures,
    ResponseScores,
    StepDifferences,
    TokenValues,
    TokenWeighting,
    TokenWeights,
)

__all__ = [
    "Activations",
    "AuxiliaryModels",
    "BothRoles",
    "Critics",
    "Degradations",
    "LearnedRewards",
    "LiveReferences",
    "LossEvaluation",
    "Meanings",
    "MismatchedPrompts",
    "NamedScores",
    "OracleVotes",
    "ParameterAverages",
    "PassTables",
    "Perturbations",
    "PromptFeatures",
    "PromptTemplates",
    "RandomDraws",
    "ResponseRewards",
    "ResponseScores",
    "ResponseTexts",
    "RewardData",
    "RewardModels",
    "RunCache",
    "SegmentRewriting",
    "SelfEvaluation",
    "SelfWrittenTests",
    "SetRewards",
    "Step",
    "StepContinuation",
    "StepCut",
    "StepDifferences",
    "TeacherResponses",
    "TokenValues",
    "TokenWeighting",
    "TokenWeights",
    "check",
    "needing",
]
