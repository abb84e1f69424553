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

_BEARER: Final = "Authorization"


@dataclass(frozen=True, slots=True, kw_only=True)
class Preset:
    """What a `[[providers]]` table of this provider holds."""

    name: str
    title: str
    base_url: str
    format: str = "anthropic"
    auth_header: str = _BEARER
    key_url: str = ""
    """Where a key is to be had; empty where none is needed."""
    key_env: str = ""
    """The variable that conventionally holds the key."""
    quirks: Mapping[str, Any] = MappingProxyType({})
    models: Mapping[str, str] = MappingProxyType({})
    note: str = ""

    @property
    def placeholders(self) -> tuple[str, ...]:
        """What the user has to say before the URL is one, such as `resource` for `{resource}`."""
        return tuple(dict.fromkeys(_PLACEHOLDER.findall(self.base_url)))

    def url(self, **values: str) -> str:
        """The base URL with its placeholders filled in; those without a value stay."""
        return _PLACEHOLDER.sub(lambda match: values.get(match[1], match[0]), self.base_url)


def _tiers(large: str, small: str) -> Mapping[str, str]:
    """A mapping of all models to one, and of the small ones to another."""
    return MappingProxyType({"*haiku*": small, "*": large})


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
    "reasoning": "effort",
    "parallel_tool_calls": False,
    "user_field": False,
}
_LOCAL: Final = {"user_field": False, "parallel_tool_calls": False}

_CLAUDE_AT_OPENROUTER: Final = MappingProxyType(
    {
        "*opus*": "~anthropic/claude-opus-latest",
        "*haiku*": "~anthropic/claude-haiku-latest",
        "*": "~anthropic/claude-sonnet-latest",
    }
)

_ROWS: Final = (
    Preset(
        name="openai",
        title="OpenAI",
        base_url="https://api.openai.com/v1",
        format="openai",
        key_url="https://platform.openai.com/api-keys",
        key_env="OPENAI_API_KEY",
        quirks=_OPENAI,
        models=_tiers("gpt-5.6", "gpt-5.6-mini"),
        note="with tools its newest models don't think on this API",
    ),
    Preset(
        name="azure",
        title="Azure OpenAI",
        base_url="https://{resource}.openai.azure.com/openai/v1",
        format="openai",
        auth_header="api-key",
        key_url="https://ai.azure.com",
        key_env="AZURE_OPENAI_API_KEY",
        quirks=_OPENAI,
        note="the models are the names of your deployments",
    ),
    Preset(
        name="azure-claude",
        title="Claude on Azure AI Foundry",
        base_url="https://{resource}.services.ai.azure.com/anthropic",
        auth_header="x-api-key",
        key_url="https://ai.azure.com",
        key_env="ANTHROPIC_FOUNDRY_API_KEY",
        note="the models are the names of your deployments",
    ),
    Preset(
        name="openrouter",
        title="OpenRouter",
        base_url="https://openrouter.ai/api",
        key_url="https://openrouter.ai/settings/keys",
        key_env="OPENROUTER_API_KEY",
        models=_CLAUDE_AT_OPENROUTER,
    ),
    Preset(
        name="openrouter-openai",
        title="OpenRouter, OpenAI format",
        base_url="https://openrouter.ai/api/v1",
        format="openai",
        key_url="https://openrouter.ai/settings/keys",
        key_env="OPENROUTER_API_KEY",
        quirks=_OPENROUTER,
        models=_CLAUDE_AT_OPENROUTER,
        note="for models that its other endpoint does not have",
    ),
    Preset(
        name="deepseek",
        title="DeepSeek",
        base_url="https://api.deepseek.com/anthropic",
        auth_header="x-api-key",
        key_url="https://platform.deepseek.com/api_keys",
        key_env="DEEPSEEK_API_KEY",
        models=_tiers("deepseek-v4-pro", "deepseek-v4-flash"),
    ),
    Preset(
        name="deepseek-openai",
        title="DeepSeek, OpenAI format",
        base_url="https://api.deepseek.com/v1",
        format="openai",
        key_url="https://platform.deepseek.com/api_keys",
        key_env="DEEPSEEK_API_KEY",
        quirks=_DEEPSEEK,
        models=_tiers("deepseek-v4-pro", "deepseek-v4-flash"),
    ),
    Preset(
        name="moonshot",
        title="Moonshot AI (Kimi)",
        base_url="https://api.moonshot.ai/anthropic",
        key_url="https://platform.moonshot.ai/console/api-keys",
        key_env="MOONSHOT_API_KEY",
        models=_tiers("kimi-k3", "kimi-k2.6"),
    ),
    Preset(
        name="moonshot-cn",
        title="Moonshot AI (Kimi), China",
        base_url="https://api.moonshot.cn/anthropic",
        key_url="https://platform.moonshot.cn/console/api-keys",
        key_env="MOONSHOT_API_KEY",
        models=_tiers("kimi-k3", "kimi-k2.6"),
    ),
    Preset(
        name="moonshot-openai",
        title="Moonshot AI (Kimi), OpenAI format",
        base_url="https://api.moonshot.ai/v1",
        format="openai",
        key_url="https://platform.moonshot.ai/console/api-keys",
        key_env="MOONSHOT_API_KEY",
        quirks=_KIMI,
        models=_tiers("kimi-k3", "kimi-k2.6"),
    ),
    Preset(
        name="kimi-coding",
        title="Kimi coding plan",
        base_url="https://api.kimi.com/coding",
        key_url="https://www.kimi.com/code",
        key_env="KIMI_API_KEY",
        models=MappingProxyType({"*": "kimi-for-coding"}),
        note="its keys are not those of Moonshot's platform",
    ),
    Preset(
        name="zai",
        title="Z.AI (GLM), coding plan included",
        base_url="https://api.z.ai/api/anthropic",
        key_url="https://z.ai/manage-apikey/apikey-list",
        key_env="ZAI_API_KEY",
        models=_tiers("glm-5.3", "glm-5.3-flash"),
    ),
    Preset(
        name="zai-openai",
        title="Z.AI (GLM), OpenAI format",
        base_url="https://api.z.ai/api/paas/v4",
        format="openai",
        key_url="https://z.ai/manage-apikey/apikey-list",
        key_env="ZAI_API_KEY",
        quirks=_GLM,
        models=_tiers("glm-5.3", "glm-5.3-flash"),
        note="with a coding plan the URL is https://api.z.ai/api/coding/paas/v4",
    ),
    Preset(
        name="zhipu",
        title="Zhipu BigModel (GLM), China",
        base_url="https://open.bigmodel.cn/api/anthropic",
        key_url="https://open.bigmodel.cn/usercenter/apikeys",
        key_env="ZHIPU_API_KEY",
        models=_tiers("glm-5.3", "glm-5.3-flash"),
    ),
    Preset(
        name="zhipu-openai",
        title="Zhipu BigModel (GLM), OpenAI format",
        base_url="https://open.bigmodel.cn/api/paas/v4",
        format="openai",
        key_url="https://open.bigmodel.cn/usercenter/apikeys",
        key_env="ZHIPU_API_KEY",
        quirks=_GLM,
        models=_tiers("glm-5.3", "glm-5.3-flash"),
        note="with a coding plan the URL is https://open.bigmodel.cn/api/coding/paas/v4",
    ),
    Preset(
        name="qwen",
        title="Qwen (Alibaba Model Studio)",
        base_url="https://dashscope-intl.aliyuncs.com/apps/anthropic",
        key_url="https://modelstudio.console.alibabacloud.com",
        key_env="DASHSCOPE_API_KEY",
        models=_tiers("qwen3.7-max", "qwen3.6-flash"),
    ),
    Preset(
        name="qwen-cn",
        title="Qwen (DashScope), China",
        base_url="https://dashscope.aliyuncs.com/apps/anthropic",
        key_url="https://bailian.console.aliyun.com",
        key_env="DASHSCOPE_API_KEY",
        models=_tiers("qwen3.7-max", "qwen3.6-flash"),
    ),
    Preset(
        name="qwen-coding",
        title="Qwen coding plan",
        base_url="https://coding.dashscope.aliyuncs.com/apps/anthropic",
        key_url="https://bailian.console.aliyun.com",
        key_env="DASHSCOPE_CODING_API_KEY",
        note="its keys are not those of DashScope",
    ),
    Preset(
        name="qwen-openai",
        title="Qwen (Alibaba Model Studio), OpenAI format",
        base_url="https://dashscope-intl.aliyuncs.com/compatible-mode/v1",
        format="openai",
        key_url="https://modelstudio.console.alibabacloud.com",
        key_env="DASHSCOPE_API_KEY",
        quirks=_QWEN,
        models=_tiers("qwen3.7-max", "qwen3.6-flash"),
    ),
    Preset(
        name="minimax",
        title="MiniMax",
        base_url="https://api.minimax.io/anthropic",
        key_url="https://platform.minimax.io",
        key_env="MINIMAX_API_KEY",
        models=MappingProxyType({"*": "MiniMax-M3"}),
    ),
    Preset(
        name="minimax-cn",
        title="MiniMax, China",
        base_url="https://api.minimaxi.com/anthropic",
        key_url="https://platform.minimaxi.com",
        key_env="MINIMAX_API_KEY",
        models=MappingProxyType({"*": "MiniMax-M3"}),
    ),
    Preset(
        name="minimax-openai",
        title="MiniMax, OpenAI format",
        base_url="https://api.minimax.io/v1",
        format="openai",
        key_url="https://platform.minimax.io",
        key_env="MINIMAX_API_KEY",
        quirks=MappingProxyType({"reasoning_content": "all"}),
        models=MappingProxyType({"*": "MiniMax-M3"}),
    ),
    Preset(
        name="groq",
        title="Groq",
        base_url="https://api.groq.com/openai/v1",
        format="openai",
        key_url="https://console.groq.com/keys",
        key_env="GROQ_API_KEY",
        quirks=MappingProxyType({"images": False, "response_format": "json_object"}),
        models=_tiers("openai/gpt-oss-120b", "openai/gpt-oss-20b"),
    ),
    Preset(
        name="together",
        title="Together AI",
        base_url="https://api.together.xyz/v1",
        format="openai",
        key_url="https://api.together.ai/settings/api-keys",
        key_env="TOGETHER_API_KEY",
    ),
    Preset(
        name="mistral",
        title="Mistral",
        base_url="https://api.mistral.ai/v1",
        format="openai",
        key_url="https://console.mistral.ai/api-keys",
        key_env="MISTRAL_API_KEY",
        quirks=_MISTRAL,
        models=_tiers("devstral-latest", "mistral-small-latest"),
    ),
    Preset(
        name="gemini",
        title="Google Gemini",
        base_url="https://generativelanguage.googleapis.com/v1beta/openai",
        format="openai",
        key_url="https://aistudio.google.com/apikey",
        key_env="GEMINI_API_KEY",
        quirks=_GEMINI,
        models=MappingProxyType({"*": "gemini-3.8-flash"}),
    ),
    Preset(
        name="xai",
        title="xAI",
        base_url="https://api.x.ai/v1",
        format="openai",
        key_url="https://console.x.ai",
        key_env="XAI_API_KEY",
        quirks=MappingProxyType({"stop_limit": 0}),
        models=MappingProxyType({"*": "grok-4-latest"}),
    ),
    Preset(
        name="siliconflow",
        title="SiliconFlow",
        base_url="https://api.siliconflow.com",
        key_url="https://cloud.siliconflow.com/account/ak",
        key_env="SILICONFLOW_API_KEY",
    ),
    Preset(
        name="siliconflow-openai",
        title="SiliconFlow, OpenAI format",
        base_url="https://api.siliconflow.com/v1",
        format="openai",
        key_url="https://cloud.siliconflow.com/account/ak",
        key_env="SILICONFLOW_API_KEY",
        quirks=MappingProxyType({"reasoning_content": "calls"}),
    ),
    Preset(
        name="volcengine",
        title="Volcengine Ark",
        base_url="https://ark.cn-beijing.volces.com/api/compatible",
        key_url="https://console.volcengine.com/ark",
        key_env="ARK_API_KEY",
    ),
    Preset(
        name="volcengine-coding",
        title="Volcengine Ark coding plan",
        base_url="https://ark.cn-beijing.volces.com/api/coding",
        key_url="https://console.volcengine.com/ark",
        key_env="ARK_API_KEY",
    ),
    Preset(
        name="volcengine-openai",
        title="Volcengine Ark, OpenAI format",
        base_url="https://ark.cn-beijing.volces.com/api/v3",
        format="openai",
        key_url="https://console.volcengine.com/ark",
        key_env="ARK_API_KEY",
        quirks=MappingProxyType({"reasoning": "thinking", "reasoning_content": "calls"}),
    ),
    Preset(
        name="stepfun",
        title="StepFun step plan",
        base_url="https://api.stepfun.com/step_plan",
        key_url="https://platform.stepfun.com",
        key_env="STEPFUN_API_KEY",
    ),
    Preset(
        name="qianfan",
        title="Baidu Qianfan coding plan",
        base_url="https://qianfan.baidubce.com/anthropic/coding",
        key_url="https://console.bce.baidu.com/qianfan",
        key_env="QIANFAN_API_KEY",
    ),
    Preset(
        name="longcat",
        title="LongCat",
        base_url="https://api.longcat.chat/anthropic",
        key_url="https://longcat.chat/platform/api_keys",
        key_env="LONGCAT_API_KEY",
    ),
    Preset(
        name="novita",
        title="Novita AI",
        base_url="https://api.novita.ai/anthropic",
        key_url="https://novita.ai/settings/key-management",
        key_env="NOVITA_API_KEY",
    ),
    Preset(
        name="ppio",
        title="PPIO",
        base_url="https://api.ppio.com/anthropic",
        key_url="https://ppio.com/settings/key-management",
        key_env="PPIO_API_KEY",
    ),
    Preset(
        name="modelscope",
        title="ModelScope",
        base_url="https://api-inference.modelscope.cn",
        key_url="https://modelscope.cn/my/myaccesstoken",
        key_env="MODELSCOPE_API_KEY",
    ),
    Preset(
        name="vercel",
        title="Vercel AI Gateway",
        base_url="https://ai-gateway.vercel.sh",
        key_url="https://vercel.com/ai-gateway",
        key_env="AI_GATEWAY_API_KEY",
    ),
    Preset(
        name="ollama",
        title="Ollama on this machine",
        base_url="http://localhost:11434",
        note="give the model a long context: the default one cuts the prompt short",
    ),
    Preset(
        name="ollama-cloud",
        title="Ollama cloud",
        base_url="https://ollama.com",
        key_url="https://ollama.com/settings/keys",
        key_env="OLLAMA_API_KEY",
    ),
    Preset(
        name="ollama-openai",
        title="Ollama before 0.14",
        base_url="http://localhost:11434/v1",
        format="openai",
        quirks=MappingProxyType({**_LOCAL, "tool_choice_required": False}),
        note="give the model a long context: the default one cuts the prompt short",
    ),
    Preset(
        name="vllm",
        title="vLLM on this machine",
        base_url="http://localhost:8000/v1",
        format="openai",
        quirks=_LOCAL,
        note="serve it with --enable-auto-tool-choice and a --tool-call-parser",
    ),
    Preset(
        name="vllm-anthropic",
        title="vLLM on this machine, its Anthropic endpoint",
        base_url="http://localhost:8000",
        note="recent versions only; serve it with --enable-auto-tool-choice",
    ),
    Preset(
        name="lmstudio",
        title="LM Studio on this machine",
        base_url="http://localhost:1234",
        note="recent versions only; others speak the OpenAI format at /v1",
    ),
    Preset(
        name="lmstudio-openai",
        title="LM Studio on this machine, OpenAI format",
        base_url="http://localhost:1234/v1",
        format="openai",
        quirks=_LOCAL,
    ),
    Preset(
        name="llamacpp",
        title="llama.cpp on this machine",
        base_url="http://localhost:8080/v1",
        format="openai",
        quirks=_LOCAL,
        note="serve it with --jinja, or it knows no tools",
    ),
)

PRESETS: Final[Mapping[str, Preset]] = MappingProxyType({row.name: row for row in _ROWS})
"""All presets by name."""
