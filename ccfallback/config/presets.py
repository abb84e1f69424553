"""Providers that need only a key: everything else about them is known.

A row is data. Where a provider speaks the client's own format, that is the one to use: nothing
has to be translated. Names of models change often, so those here are only suggestions.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final

_PLACEHOLDER: Final = re.compile(r"\{([a-z]+)\}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Preset:
    """What a `[[providers]]` table of this provider holds."""

    name: str
    title: str
    base_url: str
    format: str
    auth_header: str
    key_url: str
    """Where a key is to be had; empty where none is needed."""
    key_env: str
    """The variable that conventionally holds the key."""
    quirks: Mapping[str, Any]
    models: Mapping[str, str]
    """A `model_mapping` to begin with."""
    note: str

    @property
    def placeholders(self) -> tuple[str, ...]:
        """What the user has to say before the URL is one, such as `resource` for `{resource}`."""
        return tuple(dict.fromkeys(_PLACEHOLDER.findall(self.base_url)))

    def url(self, **values: str) -> str:
        """The base URL with its placeholders filled in; those without a value stay."""
        return _PLACEHOLDER.sub(lambda match: values.get(match[1], match[0]), self.base_url)


def _one(model: str) -> Mapping[str, str]:
    """A mapping of all models to one."""
    return {"*": model}


def _tiers(large: str, small: str) -> Mapping[str, str]:
    """A mapping of all models to one, and of the small ones to another."""
    return {"*haiku*": small, "*": large}


_OPENAI: Final = {
    "max_tokens_field": "auto",
    "reasoning": "effort",
    "max_effort": "xhigh",
    "string_content": False,
    "pdf": True,
    "think_tags": False,
}
_OPENROUTER: Final = {
    "reasoning": "openrouter",
    "max_effort": "xhigh",
    "string_content": False,
    "cache_control": True,
    "pdf": True,
}
_DEEPSEEK: Final = {
    "reasoning": "thinking",
    "reasoning_content": "all",
    "response_format": "json_object",
    "images": False,
}
_KIMI: Final = {
    "reasoning_content": "calls",
    "schema": "kimi",
    "parallel_tool_calls": False,
    "tool_choice_required": False,
    "response_format": "json_object",
    "prefill": "partial",
}
_GLM: Final = {
    "reasoning": "thinking",
    "reasoning_content": "calls",
    "stop_limit": 1,
    "tool_choice_required": False,
    "parallel_tool_calls": False,
    "response_format": "json_object",
    "extra_body": {"tool_stream": True},
}
_QWEN: Final = {
    "reasoning": "enable_thinking",
    "tool_choice_required": False,
    "response_format": "json_object",
}
_MISTRAL: Final = {
    "tool_id_style": "mistral",
    "user_after_tool": False,
    "stream_usage": False,
    "user_field": False,
    "prefill": "prefix",
}
_GEMINI: Final = {
    "schema": "gemini",
    "thought_signature": True,
    "reasoning": "effort",
    "parallel_tool_calls": False,
    "user_field": False,
}
_LOCAL: Final = {"user_field": False, "parallel_tool_calls": False}

_CLAUDE_AT_OPENROUTER: Final = {
    "*opus*": "~anthropic/claude-opus-latest",
    "*haiku*": "~anthropic/claude-haiku-latest",
    "*": "~anthropic/claude-sonnet-latest",
}

_ANTHROPIC_FORMAT: Final = (
    ("azure-claude", "Claude on Azure", "https://{resource}.services.ai.azure.com/anthropic"),
    ("openrouter", "OpenRouter", "https://openrouter.ai/api"),
    ("deepseek", "DeepSeek", "https://api.deepseek.com/anthropic"),
    ("moonshot", "Moonshot (Kimi)", "https://api.moonshot.ai/anthropic"),
    ("moonshot-cn", "Moonshot (Kimi), China", "https://api.moonshot.cn/anthropic"),
    ("kimi-coding", "Kimi coding plan", "https://api.kimi.com/coding"),
    ("zai", "Z.AI GLM", "https://api.z.ai/api/anthropic"),
    ("zhipu", "Zhipu GLM, China", "https://open.bigmodel.cn/api/anthropic"),
    ("qwen", "Qwen (Model Studio)", "https://dashscope-intl.aliyuncs.com/apps/anthropic"),
    ("qwen-cn", "Qwen (DashScope), China", "https://dashscope.aliyuncs.com/apps/anthropic"),
    ("qwen-coding", "Qwen coding plan", "https://coding.dashscope.aliyuncs.com/apps/anthropic"),
    ("minimax", "MiniMax", "https://api.minimax.io/anthropic"),
    ("minimax-cn", "MiniMax, China", "https://api.minimaxi.com/anthropic"),
    ("siliconflow", "SiliconFlow", "https://api.siliconflow.com"),
    ("volcengine", "Volcengine Ark", "https://ark.cn-beijing.volces.com/api/compatible"),
    ("volcengine-coding", "Volcengine coding plan", "https://ark.cn-beijing.volces.com/api/coding"),
    ("stepfun", "StepFun step plan", "https://api.stepfun.com/step_plan"),
    ("qianfan", "Baidu Qianfan coding plan", "https://qianfan.baidubce.com/anthropic/coding"),
    ("longcat", "LongCat", "https://api.longcat.chat/anthropic"),
    ("novita", "Novita AI", "https://api.novita.ai/anthropic"),
    ("ppio", "PPIO", "https://api.ppio.com/anthropic"),
    ("modelscope", "ModelScope", "https://api-inference.modelscope.cn"),
    ("vercel", "Vercel AI Gateway", "https://ai-gateway.vercel.sh"),
    ("ollama", "Ollama", "http://localhost:11434"),
    ("ollama-cloud", "Ollama cloud", "https://ollama.com"),
    ("vllm-anthropic", "vLLM (Anthropic format)", "http://localhost:8000"),
    ("lmstudio", "LM Studio", "http://localhost:1234"),
)
"""Name, title and base URL of those that speak the client's own format."""

_OPENAI_FORMAT: Final = (
    ("openai", "OpenAI", "https://api.openai.com/v1"),
    ("azure", "Azure OpenAI", "https://{resource}.openai.azure.com/openai/v1"),
    ("openrouter-openai", "OpenRouter (OpenAI format)", "https://openrouter.ai/api/v1"),
    ("deepseek-openai", "DeepSeek (OpenAI format)", "https://api.deepseek.com/v1"),
    ("moonshot-openai", "Moonshot (OpenAI format)", "https://api.moonshot.ai/v1"),
    ("zai-openai", "Z.AI GLM (OpenAI format)", "https://api.z.ai/api/paas/v4"),
    ("zhipu-openai", "Zhipu GLM (OpenAI format)", "https://open.bigmodel.cn/api/paas/v4"),
    (
        "qwen-openai",
        "Qwen (OpenAI format)",
        "https://dashscope-intl.aliyuncs.com/compatible-mode/v1",
    ),
    ("minimax-openai", "MiniMax (OpenAI format)", "https://api.minimax.io/v1"),
    ("groq", "Groq", "https://api.groq.com/openai/v1"),
    ("together", "Together AI", "https://api.together.xyz/v1"),
    ("mistral", "Mistral", "https://api.mistral.ai/v1"),
    ("gemini", "Google Gemini", "https://generativelanguage.googleapis.com/v1beta/openai"),
    ("xai", "xAI", "https://api.x.ai/v1"),
    ("siliconflow-openai", "SiliconFlow (OpenAI format)", "https://api.siliconflow.com/v1"),
    ("volcengine-openai", "Volcengine (OpenAI format)", "https://ark.cn-beijing.volces.com/api/v3"),
    ("ollama-openai", "Ollama before 0.14", "http://localhost:11434/v1"),
    ("vllm", "vLLM", "http://localhost:8000/v1"),
    ("lmstudio-openai", "LM Studio (OpenAI format)", "http://localhost:1234/v1"),
    ("llamacpp", "llama.cpp", "http://localhost:8080/v1"),
)
"""The same of those for which everything is translated."""

_KEYS: Final = {
    "openai": ("OPENAI_API_KEY", "https://platform.openai.com/api-keys"),
    "azure": ("AZURE_OPENAI_API_KEY", "https://ai.azure.com"),
    "azure-claude": ("ANTHROPIC_FOUNDRY_API_KEY", "https://ai.azure.com"),
    "openrouter": ("OPENROUTER_API_KEY", "https://openrouter.ai/settings/keys"),
    "deepseek": ("DEEPSEEK_API_KEY", "https://platform.deepseek.com/api_keys"),
    "moonshot": ("MOONSHOT_API_KEY", "https://platform.moonshot.ai/console/api-keys"),
    "moonshot-cn": ("MOONSHOT_API_KEY", "https://platform.moonshot.cn/console/api-keys"),
    "kimi": ("KIMI_API_KEY", "https://www.kimi.com/code"),
    "zai": ("ZAI_API_KEY", "https://z.ai/manage-apikey/apikey-list"),
    "zhipu": ("ZHIPU_API_KEY", "https://open.bigmodel.cn/usercenter/apikeys"),
    "qwen": ("DASHSCOPE_API_KEY", "https://modelstudio.console.alibabacloud.com"),
    "qwen-cn": ("DASHSCOPE_API_KEY", "https://bailian.console.aliyun.com"),
    "qwen-coding": ("DASHSCOPE_CODING_API_KEY", "https://bailian.console.aliyun.com"),
    "minimax": ("MINIMAX_API_KEY", "https://platform.minimax.io"),
    "minimax-cn": ("MINIMAX_API_KEY", "https://platform.minimaxi.com"),
    "groq": ("GROQ_API_KEY", "https://console.groq.com/keys"),
    "together": ("TOGETHER_API_KEY", "https://api.together.ai/settings/api-keys"),
    "mistral": ("MISTRAL_API_KEY", "https://console.mistral.ai/api-keys"),
    "gemini": ("GEMINI_API_KEY", "https://aistudio.google.com/apikey"),
    "xai": ("XAI_API_KEY", "https://console.x.ai"),
    "siliconflow": ("SILICONFLOW_API_KEY", "https://cloud.siliconflow.com/account/ak"),
    "volcengine": ("ARK_API_KEY", "https://console.volcengine.com/ark"),
    "stepfun": ("STEPFUN_API_KEY", "https://platform.stepfun.com"),
    "qianfan": ("QIANFAN_API_KEY", "https://console.bce.baidu.com/qianfan"),
    "longcat": ("LONGCAT_API_KEY", "https://longcat.chat/platform/api_keys"),
    "novita": ("NOVITA_API_KEY", "https://novita.ai/settings/key-management"),
    "ppio": ("PPIO_API_KEY", "https://ppio.com/settings/key-management"),
    "modelscope": ("MODELSCOPE_API_KEY", "https://modelscope.cn/my/myaccesstoken"),
    "vercel": ("AI_GATEWAY_API_KEY", "https://vercel.com/ai-gateway"),
    "ollama-cloud": ("OLLAMA_API_KEY", "https://ollama.com/settings/keys"),
}
"""The conventional variable and where to get a key; a variant without a row has its provider's."""

_AUTH_HEADERS: Final = {
    "azure": "api-key",
    "azure-claude": "x-api-key",
    "deepseek": "x-api-key",
}

_QUIRKS: Final[Mapping[str, Mapping[str, Any]]] = {
    "openai": _OPENAI,
    "azure": _OPENAI,
    "openrouter-openai": _OPENROUTER,
    "deepseek-openai": _DEEPSEEK,
    "moonshot-openai": _KIMI,
    "zai-openai": _GLM,
    "zhipu-openai": _GLM,
    "qwen-openai": _QWEN,
    "minimax-openai": {"reasoning_content": "all"},
    "groq": {"images": False, "response_format": "json_object"},
    "mistral": _MISTRAL,
    "gemini": _GEMINI,
    "xai": {"stop_limit": 0},
    "siliconflow-openai": {"reasoning_content": "calls"},
    "volcengine-openai": {"reasoning": "thinking", "reasoning_content": "calls"},
    "ollama-openai": {**_LOCAL, "tool_choice_required": False},
    "vllm": _LOCAL,
    "lmstudio-openai": _LOCAL,
    "llamacpp": _LOCAL,
}

_MODELS: Final[Mapping[str, Mapping[str, str]]] = {
    "openai": _tiers("gpt-5.6", "gpt-5.6-mini"),
    "openrouter": _CLAUDE_AT_OPENROUTER,
    "deepseek": _tiers("deepseek-v4-pro", "deepseek-v4-flash"),
    "moonshot": _tiers("kimi-k3", "kimi-k2.6"),
    "kimi": _one("kimi-for-coding"),
    "zai": _tiers("glm-5.3", "glm-5.3-flash"),
    "zhipu": _tiers("glm-5.3", "glm-5.3-flash"),
    "qwen": _tiers("qwen3.7-max", "qwen3.6-flash"),
    "minimax": _one("MiniMax-M3"),
    "groq": _tiers("openai/gpt-oss-120b", "openai/gpt-oss-20b"),
    "mistral": _tiers("devstral-latest", "mistral-small-latest"),
    "gemini": _one("gemini-3.8-flash"),
    "xai": _one("grok-4-latest"),
}
"""A mapping to begin with, by provider."""

_NOTES: Final[Mapping[str, str]] = {
    "openai": "with tools its newest models don't think on this API",
    "azure": "the models are the names of your deployments",
    "azure-claude": "the models are the names of your deployments",
    "openrouter-openai": "for models that its other endpoint does not have",
    "kimi-coding": "its keys are not those of Moonshot's platform",
    "zai-openai": "with a coding plan the URL is https://api.z.ai/api/coding/paas/v4",
    "zhipu-openai": "with a coding plan the URL is https://open.bigmodel.cn/api/coding/paas/v4",
    "qwen-coding": "its keys are not those of DashScope",
    "ollama": "give the model a long context: the default one cuts the prompt short",
    "ollama-openai": "give the model a long context: the default one cuts the prompt short",
    "vllm": "serve it with --enable-auto-tool-choice and a --tool-call-parser",
    "vllm-anthropic": "recent versions only; serve it with --enable-auto-tool-choice",
    "lmstudio": "recent versions only; others speak the OpenAI format at /v1",
    "llamacpp": "serve it with --jinja, or it knows no tools",
}


def _preset(wire_format: str, name: str, title: str, base_url: str) -> Preset:
    provider = name.partition("-")[0]
    key_env, key_url = _KEYS.get(name) or _KEYS.get(provider, ("", ""))
    return Preset(
        name=name,
        title=title,
        base_url=base_url,
        format=wire_format,
        auth_header=_AUTH_HEADERS.get(name, "Authorization"),
        key_url=key_url,
        key_env=key_env,
        quirks=MappingProxyType(dict(_QUIRKS.get(name, {}))),
        models=MappingProxyType(dict(_MODELS.get(provider, {}))),
        note=_NOTES.get(name, ""),
    )


PRESETS: Final[Mapping[str, Preset]] = MappingProxyType(
    {
        row[0]: _preset(wire_format, *row)
        for wire_format, rows in (("anthropic", _ANTHROPIC_FORMAT), ("openai", _OPENAI_FORMAT))
        for row in rows
    }
)
"""All presets by name."""
