"""Chat templates of the kinds that models carry, written for these tests, and a byte-level tokenizer for them."""

from __future__ import annotations

import functools
from typing import Any

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

SPECIALS = [
    "<s>",
    "</s>",
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|start_header_id|>",
    "<|end_header_id|>",
    "<|eot_id|>",
    "<|eom_id|>",
    "[INST]",
    "[/INST]",
    "<start_of_turn>",
    "<end_of_turn>",
    "<|user|>",
    "<|assistant|>",
    "<|system|>",
    "<|end|>",
    "<|User|>",
    "<|Assistant|>",
    "<|START_OF_TURN_TOKEN|>",
    "<|END_OF_TURN_TOKEN|>",
    "<|CHATBOT_TOKEN|>",
    "<|USER_TOKEN|>",
    "<|channel|>",
    "<|message|>",
    "<|start|>",
    "<|return|>",
    "<|call_begin|>",
    "<|call_end|>",
]
ADDED = ("<think>", "</think>", "<tool_call>", "</tool_call>")
TEXT = (
    "How do I keep basil alive on a windowsill? Give it six hours of light. Name a prime: 7. The sky is grey.\n\n"
    "user assistant system model Human: Assistant: USER: ### Instruction: ### Response:\n"
)


@functools.cache
def tokenizer(template: str | None = None, eos: str = "</s>") -> Any:
    """A byte-level BPE tokenizer that knows every special token above."""
    learner = Tokenizer(models.BPE())
    learner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    learner.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    learner.train_from_iterator(
        [TEXT] * 3, trainers.BpeTrainer(vocab_size=380, special_tokens=SPECIALS, initial_alphabet=alphabet)
    )
    made = PreTrainedTokenizerFast(tokenizer_object=learner, bos_token="<s>", eos_token=eos)
    made.add_tokens(list(ADDED))
    made.chat_template = template
    return made


def _loop(body: str, opening: str = "", before: str = "{{ bos_token }}", after: str = "") -> str:
    """A template that writes `body` for every message m, and `opening` to ask for an answer."""
    asked = "{% if add_generation_prompt %}" + opening + "{% endif %}" if opening else ""
    return before + "{% for m in messages %}" + body + "{% endfor %}" + after + asked


def _header(role: str) -> str:
    return "<|start_header_id|>" + role + "<|end_header_id|>\n\n"


_LAST_USER = (
    "{% set ns = namespace(last=-1) %}{% for m in messages %}{% if m.role == 'user' %}{% set ns.last = loop.index0 %}"
    "{% endif %}{% endfor %}"
)
_SPLIT = (
    "{% set content = m.content or '' %}{% set think = m.reasoning_content or '' %}"
    "{% if '</think>' in content %}{% set think = content.split('</think>')[0].split('<think>')[-1] %}"
    "{% set content = content.split('</think>')[-1].lstrip('\n') %}{% endif %}"
)
_CALLS = (
    '{% for call in m.tool_calls or [] %}{{ \'\n<tool_call>\n{"name": "\' + call.function.name + \'", "arguments": \' '
    "+ call.function.arguments | tojson + '}\n</tool_call>' }}{% endfor %}"
)
_TOOLS = "{% if tools %}<|im_start|>system\n{% for t in tools %}{{ t | tojson }}\n{% endfor %}<|im_end|>\n{% endif %}"

CHATML = _loop(
    "{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}", "<|im_start|>assistant\n", ""
)
LLAMA3 = _loop(
    "{{ '" + _header("' + m.role + '") + "' + m.content | trim + '<|eot_id|>' }}", _header("assistant")
)
QWEN3 = _loop(
    "{% if m.role == 'assistant' %}"
    + _SPLIT
    + "{{ '<|im_start|>assistant\n' }}{% if loop.index0 > ns.last and (loop.last or think) %}"
    "{{ '<think>\n' + think.strip('\n') + '\n</think>\n\n' }}{% endif %}{{ content }}"
    + _CALLS
    + "{{ '<|im_end|>\n' }}{% elif m.role == 'tool' %}"
    "{{ '<|im_start|>user\n<tool_response>\n' + m.content + '\n</tool_response><|im_end|>\n' }}"
    "{% else %}{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}{% endif %}",
    "{{ '<|im_start|>assistant\n' }}{% if enable_thinking is false %}{{ '<think>\n\n</think>\n\n' }}{% endif %}",
    _LAST_USER + _TOOLS,
)
TOOLS = _loop(
    "{% if m.role == 'tool' %}{{ '<|im_start|>tool\n' + m.content + '<|im_end|>\n' }}"
    "{% else %}{{ '<|im_start|>' + m.role + '\n' + (m.content or '') }}"
    + _CALLS
    + "{{ '<|im_end|>\n' }}{% endif %}",
    "<|im_start|>assistant\n",
    _TOOLS,
)
R1 = _loop(
    "{% if m.role == 'system' %}{{ m.content }}{% elif m.role == 'user' %}{{ '<|User|>' + m.content }}{% else %}"
    "{{ '<|Assistant|>' + (m.content.split('</think>')[-1] if '</think>' in m.content else m.content) + eos_token }}"
    "{% endif %}",
    "{{ '<|Assistant|>' }}",
)

# name -> (template, EOS of its tokenizer)
TEMPLATES: dict[str, tuple[str, str]] = {
    "chatml": (CHATML, "<|im_end|>"),
    "chatml, EOS of a base model": (CHATML, "<|endoftext|>"),
    "chatml with a default system turn": (
        "{% if messages[0].role != 'system' %}<|im_start|>system\nBe kind.<|im_end|>\n{% endif %}" + CHATML,
        "<|im_end|>",
    ),
    "chatml that trims": (CHATML.replace("m.content", "m.content | trim"), "<|im_end|>"),
    "llama 3": (LLAMA3, "<|eot_id|>"),
    "llama 3, EOS of the text": (LLAMA3, "<|endoftext|>"),
    "llama 3, always opened": (
        LLAMA3.replace("{% if add_generation_prompt %}", "").removesuffix("{% endif %}"),
        "<|eot_id|>",
    ),
    "llama 3 with the date": (
        LLAMA3.replace(
            "{{ bos_token }}",
            "{{ bos_token + '" + _header("system") + "' + strftime_now('%d %b %Y') + '<|eot_id|>' }}",
        ),
        "<|eot_id|>",
    ),
    "llama 2": (
        "{% if messages[0].role == 'system' %}{% set sys = '<<SYS>>\n' + messages[0].content + '\n<</SYS>>\n\n' %}"
        "{% set messages = messages[1:] %}{% else %}{% set sys = '' %}{% endif %}"
        + _loop(
            "{% if m.role == 'user' %}{{ bos_token + '[INST] ' + (sys if loop.first else '') + m.content | trim "
            "+ ' [/INST]' }}{% else %}{{ ' ' + m.content | trim + ' ' + eos_token }}{% endif %}",
            before="",
        ),
        "</s>",
    ),
    "mistral, system in the last question": (
        "{% if messages[0].role == 'system' %}{% set sys = messages[0].content %}{% set messages = messages[1:] %}"
        "{% endif %}"
        + _loop(
            "{% if m.role == 'user' %}{{ '[INST] ' + (sys + '\n\n' if loop.last and sys is defined else '') "
            "+ m.content + '[/INST]' }}{% elif m.role == 'assistant' %}{{ ' ' + m.content | trim + eos_token }}"
            "{% else %}{{ raise_exception('only user and assistant') }}{% endif %}"
        ),
        "</s>",
    ),
    "mistral, refuses a system turn": (
        _loop(
            "{% if m.role == 'user' %}{{ '[INST]' + m.content + '[/INST]' }}{% elif m.role == 'assistant' %}"
            "{{ m.content + eos_token }}{% else %}{{ raise_exception('no system turn') }}{% endif %}"
        ),
        "</s>",
    ),
    "zephyr": (
        "{% for message in messages %}\n{% if message['role'] == 'user' %}\n"
        "{{ '<|user|>\n' + message['content'] + eos_token }}\n{% elif message['role'] == 'system' %}\n"
        "{{ '<|system|>\n' + message['content'] + eos_token }}\n{% elif message['role'] == 'assistant' %}\n"
        "{{ '<|assistant|>\n'  + message['content'] + eos_token }}\n{% endif %}\n"
        "{% if loop.last and add_generation_prompt %}\n{{ '<|assistant|>' }}\n{% endif %}\n{% endfor %}",
        "</s>",
    ),
    "gemma": (
        _loop(
            "{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('must alternate') }}{% endif %}"
            "{{ '<start_of_turn>' + ('model' if m.role == 'assistant' else m.role) + '\n' + m.content | trim "
            "+ '<end_of_turn>\n' }}",
            "<start_of_turn>model\n",
        ),
        "</s>",
    ),
    "phi, ends a conversation twice": (
        _loop(
            "{{ '<|' + m.role + '|>\n' + m.content + '<|end|>\n' }}",
            "<|assistant|>\n",
            "",
            "{% if not add_generation_prompt %}{{ eos_token }}{% endif %}",
        ),
        "<|endoftext|>",
    ),
    "qwen 3": (QWEN3, "<|im_end|>"),
    "reasoning dropped": (R1, "</s>"),
    "reasoning opened": (R1.replace("{{ '<|Assistant|>' }}", "{{ '<|Assistant|><think>\n' }}"), "</s>"),
    "no generation prompt": (
        _loop("{{ '<|' + m.role + '|>\n' + m.content + eos_token + '\n' }}", before=""),
        "</s>",
    ),
    "no generation prompt, words": (
        _loop(
            "{% if m.role == 'user' %}USER: {{ m.content }}{% elif m.role == 'assistant' %} ASSISTANT: {{ m.content }}"
            "{{ eos_token }}{% else %}{{ m.content }}\n\n{% endif %}"
        ),
        "</s>",
    ),
    "vicuna": (
        _loop(
            "{% if m.role == 'user' %}USER: {{ m.content }} {% elif m.role == 'assistant' %}"
            "ASSISTANT: {{ m.content + eos_token }}{% else %}{{ m.content + '\n\n' }}{% endif %}",
            "ASSISTANT:",
        ),
        "</s>",
    ),
    "alpaca, nothing closes": (
        _loop(
            "{% if m.role == 'user' %}### Instruction:\n{{ m.content }}\n\n{% elif m.role == 'assistant' %}"
            "### Response:\n{{ m.content }}\n\n{% else %}{{ m.content }}\n\n{% endif %}",
            "### Response:\n",
        ),
        "</s>",
    ),
    "drops the system turn": (
        _loop(
            "{% if m.role != 'system' %}{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}{% endif %}",
            "<|im_start|>assistant\n",
        ),
        "<|im_end|>",
    ),
    "capital roles": (
        _loop("{{ '<|' + m.role.capitalize() + '|>' + m.content + '<|end|>' }}", "<|Assistant|>"),
        "<|end|>",
    ),
    "cohere": (
        _loop(
            "{{ '<|START_OF_TURN_TOKEN|>' + ('<|CHATBOT_TOKEN|>' if m.role == 'assistant' else '<|USER_TOKEN|>') "
            "+ m.content + '<|END_OF_TURN_TOKEN|>' }}",
            "<|START_OF_TURN_TOKEN|><|CHATBOT_TOKEN|>",
        ),
        "<|END_OF_TURN_TOKEN|>",
    ),
    "channels": (
        _loop(
            "{% if m.role == 'assistant' %}{{ '<|start|>assistant<|channel|>final<|message|>' + m.content "
            "+ ('<|return|>' if loop.last else '<|end|>') }}{% else %}"
            "{{ '<|start|>' + m.role + '<|message|>' + m.content + '<|end|>' }}{% endif %}",
            "<|start|>assistant",
        ),
        "<|return|>",
    ),
    "tools": (TOOLS, "<|im_end|>"),
    "opened only in part": (
        _loop("{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}", "<|im_start|>", ""),
        "<|im_end|>",
    ),
    "white space before the end": (
        _loop("{{ '<|' + m.role + '|>' + m.content + '\n<|end|>\n' }}", "<|assistant|>"),
        "<|end|>",
    ),
    "changes the contents": (CHATML.replace("m.content", "m.content.replace('7', '8')"), "<|im_end|>"),
    "adds words of its own": (
        _loop(
            "{{ '<|' + m.role + '|>' + ('Sure! ' if m.role == 'assistant' else '') + m.content + '<|end|>' }}",
            "<|assistant|>",
        ),
        "<|end|>",
    ),
}
