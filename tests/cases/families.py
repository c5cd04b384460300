"""Tiny random models of the families that users bring, each with a tokenizer and a chat template of its style."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import transformers
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

TEXT = (
    "Which river runs through the town? The river is wide and slow in summer. Please answer in one short sentence. "
    "A kind helper explains the rule, then gives an example. Yes, no, perhaps; one two three four five. "
    "What is the capital, who wrote the book, how many legs has a spider? I do not know. Thank you very much!"
)

CHATML = (
    "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
LLAMA = (
    "{{ bos_token }}{% for m in messages %}{{ '<|start_header_id|>' + m.role + '<|end_header_id|>\n\n' + "
    "(m.content | trim) + '<|eot_id|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}"
)
# opens the assistant's turn whether or not it is asked to
ALWAYS_OPEN = LLAMA.replace("{% if add_generation_prompt %}", "{% if true %}")
# never opens it: the header of an answer appears only with the answer
NEVER_OPEN = "{% for m in messages %}{{ '<|' + m.role + '|>\n' + m.content + eos_token + '\n' }}{% endfor %}"
# the system text stands in the LAST user turn while that is the last turn, and nowhere once an answer follows
SYSTEM_IN_LAST = (
    "{{ bos_token }}{% if messages[0].role == 'system' %}{% set sys = messages[0].content + '\n\n' %}"
    "{% set rest = messages[1:] %}{% else %}{% set sys = '' %}{% set rest = messages %}{% endif %}"
    "{% for m in rest %}{% if m.role == 'user' %}{{ '[INST] ' + (sys if loop.last else '') + m.content + '[/INST]' }}"
    "{% elif m.role == 'assistant' %}{{ ' ' + (m.content | trim) + eos_token }}"
    "{% else %}{{ raise_exception('only user and assistant') }}{% endif %}{% endfor %}"
)
NO_SYSTEM = (
    "{{ bos_token }}{% for m in messages %}"
    "{% if m.role == 'system' %}{{ raise_exception('no system role') }}{% endif %}"
    "{{ '<start_of_turn>' + ('model' if m.role == 'assistant' else m.role) + '\n' + (m.content | trim) + "
    "'<end_of_turn>\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<start_of_turn>model\n' }}{% endif %}"
)
# every answer loses what it thought
NO_THOUGHTS = (
    "{{ bos_token }}{% for m in messages %}{% if m.role == 'user' %}{{ '<|User|>' + m.content }}"
    "{% elif m.role == 'assistant' %}{{ '<|Assistant|>' + m.content.split('</think>')[-1] + eos_token }}"
    "{% else %}{{ m.content }}{% endif %}{% endfor %}{% if add_generation_prompt %}{{ '<|Assistant|>' }}{% endif %}"
)
# roles are compared letter by letter; any other role renders to nothing
STRICT_ROLES = (
    "{% for m in messages %}{% if m.role == 'user' %}{{ '<|im_start|>user\n' + m.content + '<|im_end|>\n' }}"
    "{% elif m.role == 'assistant' %}{{ '<|im_start|>assistant\n' + m.content + '<|im_end|>\n' }}"
    "{% endif %}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
TOOLS = (
    "{% if tools %}{{ '<|im_start|>system\nTools: ' }}{% for t in tools %}{{ t | tojson }}{% endfor %}"
    "{{ '<|im_end|>\n' }}{% endif %}"
    "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' + (m.content or '') }}"
    "{% for c in m.tool_calls or [] %}{{ '<tool_call>' + c.function.name + ' ' + (c.function.arguments | tojson) + "
    "'</tool_call>' }}{% endfor %}{{ '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' + "
    "('<think>\n\n</think>\n\n' if enable_thinking is defined and not enable_thinking else '') }}{% endif %}"
)
DATED = LLAMA.replace("{{ bos_token }}", "{{ bos_token + 'Today: ' + strftime_now('%d %b %Y') + '\n' }}")

IM = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
L3 = ("<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>")


@dataclass(frozen=True, kw_only=True)
class Family:
    """A model class with its configuration's, the tokenizer's special tokens and the template.

    eos, bos, pad   names among the special tokens; None: there is none.
    spare           rows of the embedding beyond the tokenizer's tokens; negative: too few.
    """

    model: str
    template: str | None
    specials: tuple[str, ...]
    eos: str
    bos: str | None = None
    pad: str | None = None
    spare: int = 0
    config: dict[str, Any] = field(default_factory=dict)

    def tokenizer(self) -> PreTrainedTokenizerFast:
        raw = Tokenizer(models.BPE())
        raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        raw.decoder = decoders.ByteLevel()
        alphabet = pre_tokenizers.ByteLevel.alphabet()
        trainer = trainers.BpeTrainer(
            vocab_size=340, special_tokens=[*self.specials], initial_alphabet=alphabet, show_progress=False
        )
        raw.train_from_iterator([TEXT], trainer)
        names = {"bos_token": self.bos, "eos_token": self.eos, "pad_token": self.pad}
        tokenizer = PreTrainedTokenizerFast(
            tokenizer_object=raw, **{name: token for name, token in names.items() if token}
        )
        tokenizer.chat_template = self.template
        return tokenizer

    def save(self, folder: Path, dtype: torch.dtype = torch.float32) -> Path:
        tokenizer = self.tokenizer()
        config_class = getattr(transformers, self.config.get("class", self.model.split("For")[0] + "Config"))
        small = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
        small |= {
            "num_key_value_heads": 2,
            "max_position_embeddings": 384,
            "vocab_size": len(tokenizer) + self.spare,
        }
        small |= {name: getattr(tokenizer, name) for name in ("bos_token_id", "eos_token_id", "pad_token_id")}
        small |= {name: value for name, value in self.config.items() if name != "class"}
        torch.manual_seed(0)
        model = getattr(transformers, self.model)(config_class(**small)).to(dtype)
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        return folder


def _llama(template: str | None = LLAMA, **changes: Any) -> Family:
    given = {"eos": "<|eot_id|>", "bos": "<|begin_of_text|>"} | changes
    return Family(model="LlamaForCausalLM", template=template, specials=L3, **given)


def _qwen(template: str | None = CHATML, **changes: Any) -> Family:
    given = {"eos": "<|im_end|>", "pad": "<|endoftext|>"} | changes
    return Family(model="Qwen2ForCausalLM", template=template, specials=IM, **given)


GEMMA = ("<pad>", "<eos>", "<bos>", "<start_of_turn>", "<end_of_turn>")
INST = ("<s>", "</s>", "[INST]", "[/INST]")
FAMILIES: dict[str, Callable[[], Family]] = {
    "llama": _llama,
    "llama_base_end": lambda: _llama(eos="<|end_of_text|>"),  # the template ends turns with another token
    "llama_always_open": lambda: _llama(ALWAYS_OPEN),
    "llama_dated": lambda: _llama(DATED),
    "qwen": lambda: _qwen(spare=9, config={"tie_word_embeddings": True}),
    "qwen_strict_roles": lambda: _qwen(STRICT_ROLES),
    "qwen_tools": lambda: _qwen(TOOLS),
    "qwen_small_embedding": lambda: _qwen(spare=-3),
    "never_open": lambda: Family(
        model="LlamaForCausalLM", template=NEVER_OPEN, specials=("<s>", "</s>"), eos="</s>", bos="<s>"
    ),
    "mistral": lambda: Family(
        model="MistralForCausalLM", template=SYSTEM_IN_LAST, specials=INST, eos="</s>", bos="<s>",
        config={"sliding_window": 24},
    ),
    "gemma2": lambda: Family(
        model="Gemma2ForCausalLM", template=NO_SYSTEM, specials=GEMMA, eos="<eos>", bos="<bos>", pad="<pad>",
        config={"head_dim": 8, "final_logit_softcapping": 30.0, "attn_logit_softcapping": 50.0,
                "query_pre_attn_scalar": 8, "sliding_window": 32},
    ),
    "no_thoughts": lambda: Family(
        model="LlamaForCausalLM", template=NO_THOUGHTS, specials=("<b>", "<e>", "<|User|>", "<|Assistant|>"),
        eos="<e>", bos="<b>",
    ),
    "mixtral": lambda: Family(
        model="MixtralForCausalLM", template=SYSTEM_IN_LAST, specials=INST, eos="</s>", bos="<s>",
        config={"num_local_experts": 4, "num_experts_per_tok": 2},
    ),
    "qwen3moe": lambda: Family(
        model="Qwen3MoeForCausalLM", template=CHATML, specials=IM, eos="<|im_end|>", pad="<|endoftext|>",
        config={"head_dim": 8, "num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 24,
                "class": "Qwen3MoeConfig"},
    ),
    "gpt2": lambda: Family(
        model="GPT2LMHeadModel", template=None, specials=("<|endoftext|>",), eos="<|endoftext|>",
        bos="<|endoftext|>",
        config={"class": "GPT2Config", "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 256},
    ),
    "reward_llama": lambda: Family(
        model="LlamaForSequenceClassification", template=LLAMA, specials=L3, eos="<|eot_id|>",
        bos="<|begin_of_text|>", config={"num_labels": 1},
    ),
    "reward_gemma": lambda: Family(
        model="Gemma2ForSequenceClassification", template=NO_SYSTEM, specials=GEMMA, eos="<eos>", bos="<bos>",
        pad="<pad>", config={"num_labels": 1, "head_dim": 8, "query_pre_attn_scalar": 8},
    ),
    "reward_short": lambda: Family(
        model="LlamaForSequenceClassification", template=LLAMA, specials=L3, eos="<|eot_id|>",
        bos="<|begin_of_text|>", config={"num_labels": 1, "max_position_embeddings": 40},
    ),
}  # fmt: skip
