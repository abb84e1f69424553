"""Context windows, read from what servers say of their models."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ccfallback.config.windows import read_window

OLLAMA_SHOW: dict[str, Any] = {
    "parameters": 'temperature                    0.7\nstop                           "<|im_end|>"',
    "details": {"family": "qwen3"},
    "model_info": {"general.architecture": "qwen3", "qwen3.context_length": 262144},
}
OLLAMA_SET = {**OLLAMA_SHOW, "parameters": f"num_ctx   65536\n{OLLAMA_SHOW['parameters']}"}
OLLAMA_PS = {
    "models": [{"name": "gemma4:latest", "model": "gemma4:latest", "context_length": 8192}]
}
PROPS = {"default_generation_settings": {"n_ctx": 32768, "params": {}}, "total_slots": 4}
LLAMA = {"object": "list", "data": [{"id": "q", "meta": {"n_vocab": 1, "n_ctx_train": 131072}}]}
LLAMA_NEW = {"data": [{"id": "q", "meta": {"n_ctx_train": 131072, "n_ctx": 16384}}]}
VLLM = {
    "object": "list",
    "data": [
        {"id": "big", "object": "model", "owned_by": "vllm", "max_model_len": 131072},
        {"id": "lora", "object": "model", "parent": "big", "max_model_len": None},
    ],
}
SGLANG = {"data": [{"id": "served", "owned_by": "sglang", "max_model_len": 40960}]}
STUDIO = {
    "data": [
        {"id": "loaded", "max_context_length": 131072, "loaded_context_length": 4096},
        {"id": "not-loaded", "state": "not-loaded", "max_context_length": 131072},
    ]
}
STUDIO_V1 = {
    "models": [
        {
            "key": "loaded",
            "max_context_length": 131072,
            "loaded_instances": [
                {"id": "loaded", "config": {"context_length": 32768}},
                {"id": "loaded:2", "config": {"context_length": 16384}},
            ],
        },
        {"key": "not-loaded", "max_context_length": 65536, "loaded_instances": []},
    ]
}
OPENROUTER = {
    "data": [{"id": "a/b", "context_length": 200000, "top_provider": {"context_length": 1}}]
}
GROQ = {"data": [{"id": "openai/gpt-oss-120b", "context_window": 131072}]}
MISTRAL = {"data": [{"id": "devstral-latest", "max_context_length": 262144}]}


@pytest.mark.parametrize(
    ("answer", "model", "window"),
    [
        (OLLAMA_SET, "", 65536),
        (OLLAMA_SHOW, "", None),
        (OLLAMA_PS, "gemma4", 8192),
        (OLLAMA_PS, "gemma4:latest", 8192),
        (OLLAMA_PS, "other", None),
        (PROPS, "", 32768),
        (PROPS, "whatever-it-serves", 32768),
        (LLAMA, "q", 131072),
        (LLAMA_NEW, "q", 16384),
        (VLLM, "big", 131072),
        (VLLM, "lora", None),
        (VLLM, "", None),
        (SGLANG, "", 40960),
        (STUDIO, "loaded", 4096),
        (STUDIO, "not-loaded", 131072),
        (STUDIO_V1, "loaded", 16384),
        (STUDIO_V1, "not-loaded", 65536),
        (OPENROUTER, "a/b", 200000),
        (GROQ, "openai/gpt-oss-120b", 131072),
        (MISTRAL, "devstral-latest", 262144),
        ({}, "", None),
        ({"data": []}, "", None),
        ({"data": [{"id": "a", "max_model_len": 0}]}, "a", None),
        ({"data": [{"id": "a", "max_model_len": True}]}, "a", None),
        ({"data": [{"id": "a", "max_model_len": 2**40}]}, "a", None),
        ({"error": "not found"}, "a", None),
        ([1, 2], "a", None),
        (None, "a", None),
    ],
)
def test_the_window_of_a_server(answer: Any, model: str, window: int | None) -> None:
    assert read_window(answer, model) == window


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["data", "models", "id", "meta", "n_ctx", "parameters", "model_info"]),
            inner,
            max_size=4,
        )
    ),
)


@given(JSON, st.text(max_size=3))
def test_no_answer_is_too_strange(answer: Any, model: str) -> None:
    window = read_window(answer, model)
    assert window is None or 0 < window <= 1 << 31
