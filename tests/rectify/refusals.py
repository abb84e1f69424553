"""What providers say, by the rectifier that has to know it, and what nobody may touch."""

from collections.abc import Mapping
from typing import Final

REFUSALS: Final[Mapping[str, tuple[str, ...]]] = {
    "beta_flags": (
        "Unexpected value(s) `context-management-2025-06-27`, `foo-1` for the `anthropic-beta` "
        "header. Please consult our documentation at docs.claude.com or try again without it.",
        "Unexpected value(s) `effort-2025-11-24` for the `anthropic-beta` header",
        "Unsupported beta header: effort-2025-11-24",
        "The beta feature 'advanced-tool-use-2025-11-20' is not supported on this platform",
        "anthropic_beta: invalid value effort-2025-11-24. Supported values are: foo-1",
        "invalid beta flag",
    ),
    "context_management": (
        "context_management: Extra inputs are not permitted",
        "Unexpected field: context_management",
        "context_management: unexpected field",
        "Unknown parameter: 'context_management'.",
        "1 validation error for Request\nbody.context_management\n  Extra inputs are not "
        "permitted [type=extra_forbidden, input_value={'edits': []}, input_type=dict]",
        '[{"type":"extra_forbidden","loc":["body","context_management"],"msg":"Extra inputs are '
        'not permitted","input":{"edits":[]}}]',
        "Malformed input request: #: extraneous key [context_management] is not permitted, "
        "please reformat your input and try again.",
        "context_management.edits.0: `clear_thinking_20251015` strategy requires `thinking` to be "
        "enabled or adaptive",
        "context_management.edits.0: Input tag 'clear_thinking_20251015' found using 'type' does "
        "not match any of the expected tags: 'clear_tool_uses_20250919'",
    ),
    "output_config": (
        "output_config: Extra inputs are not permitted",
        "output_config.effort: Extra inputs are not permitted",
        "output_config.task_budget: Extra inputs are not permitted",
        "This model does not support the effort parameter.",
        "The `effort` parameter requires a model that supports it.",
        "output_config.effort: Input should be 'low', 'medium' or 'high'",
        "Unsupported value: 'reasoning_effort' does not support 'xhigh' with this model. "
        "Supported values are: 'minimal', 'low', 'medium', and 'high'.",
        "Unsupported parameter: 'reasoning_effort' is not supported with this model.",
        "messages.2.output_config: Extra inputs are not permitted",
        "messages.2.output_config.effort requires a model that supports per-turn effort",
    ),
    "tool_fields": (
        "tools.3.custom.input_examples: Extra inputs are not permitted",
        "tools.0.custom.defer_loading: Extra inputs are not permitted",
        "tools.0.eager_input_streaming: Extra inputs are not permitted",
        "tools.0.custom.strict: Extra inputs are not permitted",
        "tools.0.function.strict: Extra inputs are not permitted",
        "body.tools.1.allowed_callers: Extra inputs are not permitted",
        "Unknown parameter: 'tools[0].strict'.",
        "unknown field `defer_loading`, expected one of `name`, `description`",
        "messages.3.content.0.tool_result.content.0: Input tag 'tool_reference' found using "
        "'type' does not match any of the expected tags: 'text', 'image'",
        "defer_loading is not supported on this model",
    ),
    "cache_control": (
        "system.1.cache_control.ephemeral.scope: Extra inputs are not permitted",
        "messages.0.content.1.text.cache_control.ephemeral.ttl: Extra inputs are not permitted",
        "cache_control.ttl: not supported",
        "cache_control: Extra inputs are not permitted",
        "*.cache_control: Extra inputs are not permitted",
        "tools.3.cache_control: Extra inputs are not permitted",
        "messages.1.content.0.text.cache_control: Extra inputs are not permitted",
        "cache_control is not supported",
    ),
    "tool_changes": (
        "messages.2.content.0: Input tag 'tool_addition' found using 'type' does not match any of "
        "the expected tags: 'text'",
        "`tool_addition` blocks are not supported on this model",
        "tool_removal is not available",
        "inline tools are not supported",
        "This model does not support tool_addition",
    ),
    "system_role": (
        'messages: Unexpected role "system". The Messages API accepts a top-level `system`',
        "role 'system' is not supported on this model",
        "messages.1.role: Input should be 'user' or 'assistant'",
        "mid_conversation_system_not_supported",
        "System message must be at the beginning.",
        "messages[1].role: unknown variant `system`, expected `user` or `assistant`",
        "Only user and assistant roles are supported!",
        "System role not supported",
    ),
    "billing_text": (
        "x-anthropic-billing-header is a reserved keyword and may not be used in the system prompt",
        "system.0.text: `x-anthropic-billing-header` is a reserved keyword",
    ),
    "extra_fields": (
        "diagnostics: Extra inputs are not permitted",
        "messages.1.content.0.tool_use.caller: Extra inputs are not permitted",
        "messages.1.content.1.tool_use.caller: Additional input is not allowed",
        "messages.0.id: Extra inputs are not permitted; diagnostics: Extra inputs are not "
        "permitted",
        "Unrecognized request argument supplied: diagnostics",
        "'messages.1' : for 'role:assistant' the following must be satisfied[('messages.1' : "
        "property 'id' is unsupported)]",
        "Invalid JSON payload received. Unknown name \"id\" at 'messages[1]': Cannot find field.",
        "#/messages/0: extraneous key [id] is not permitted, please reformat your input",
        "Additional properties are not allowed ('diagnostics' was unexpected)",
        'json: unknown field "diagnostics"',
        "[{'type': 'extra_forbidden', 'loc': ('body', 'messages', 1, 'id'), 'msg': 'Extra inputs "
        "are not permitted', 'input': 'x'}]",
    ),
    "thinking_binding": (
        "messages.2.content.0: Invalid `signature` in `thinking` block: the block is bound to a "
        "different conversation: `system` changed",
        "set thinking.block_binding.prefix_mismatch_behavior to drop such blocks",
    ),
    "thinking_signature": (
        "messages.2.content.0: Invalid `signature` in `thinking` block",
        "messages.2.content.0.thinking.signature: Field required",
        "signature: Field required",
        "Thought signature is not valid",
        "Corrupted thought signature.",
        "messages.1.content.0: Invalid `data` in `redacted_thinking` block",
    ),
    "signature_field": (
        "messages.1.content.0.tool_use.signature: Extra inputs are not permitted",
        "messages.1.content.0.thinking.signature: Extra inputs are not permitted",
        "signature: Extra inputs are not permitted",
    ),
    "thinking_start": (
        "messages.1.content.0.type: Expected `thinking` or `redacted_thinking`, but found "
        "`tool_use`. When `thinking` is enabled, a final `assistant` message must start with a "
        "thinking block (preceeding the lastmost set of `tool_use` and `tool_result` blocks).",
        "Expected `thinking` or `redacted_thinking`, but found `text`.",
    ),
    "thinking_latest": (
        "messages.3.content.0: `thinking` or `redacted_thinking` blocks in the latest assistant "
        "message cannot be modified. These blocks must remain as they were.",
        "When thinking is disabled, an assistant message in the final position cannot contain "
        "thinking",
    ),
    "thinking_budget": (
        "thinking.enabled.budget_tokens: Input should be greater than or equal to 1024",
        "thinking.budget_tokens must be >= 1024",
        "`max_tokens` must be greater than `thinking.budget_tokens`. Please consult our docs.",
        "budget_tokens: Input should be less than or equal to 24576",
        "The thinking_budget parameter must be a positive integer and not greater than 38912",
        "The thinking budget 50000 is invalid. Please choose a value between 512 and 24576.",
    ),
    "thinking_mode": (
        '"thinking.type.enabled" is not supported for this model. Use "thinking.type.adaptive" '
        'and "output_config.effort" to control thinking behavior.',
        "adaptive thinking is not supported on this model",
        "thinking: Input tag 'adaptive' found using 'type' does not match any of the expected "
        "tags: 'disabled', 'enabled'",
        "thinking.type: Input should be 'enabled' or 'disabled'",
        "unknown variant `adaptive`, expected `enabled` or `disabled`",
        "thinking.type.disabled is not supported for this model",
        "thinking.type.disabled is not supported with output_config.effort xhigh or max",
        "thinking options type cannot be disabled when reasoning_effort is set",
        "thinking cannot be disabled when output_config.effort is set",
    ),
    "thinking_fields": (
        "thinking.adaptive.display: Input should be 'summarized' or 'omitted'",
        "thinking.enabled.display: Extra inputs are not permitted",
        "thinking.adaptive.block_binding: Extra inputs are not permitted",
        "thinking.block_binding.prefix: Extra inputs are not permitted",
    ),
    "forced_tool": (
        "Thinking may not be enabled when tool_choice forces tool use.",
        "tool_choice 'specified' is incompatible with thinking enabled",
        "The tool_choice parameter does not support being set to required or object in thinking "
        "mode",
        'tool_choice: type "tool" and "any" are not supported for this model',
        "Unsupported parameter: 'tool_choice' is not supported with this model.",
    ),
    "sampling": (
        "`temperature` and `top_p` cannot both be specified for this model. Please use only one.",
        "`temperature` is deprecated for this model.",
        "`temperature` may only be set to 1 when thinking is enabled. Please consult our docs.",
        "`top_k` must be unset when thinking is enabled.",
        "Unsupported value: 'temperature' does not support 0.7 with this model. Only the default "
        "(1) value is supported.",
        "Unsupported parameter: 'top_p' is not supported with this model.",
        "invalid temperature: only 1 is allowed for this model",
        "top_k: Extra inputs are not permitted",
        "temperature, top_p and top_k are not supported in this API version",
    ),
    "max_tokens": (
        "max_tokens: 128000 > 64000, which is the maximum allowed number of output tokens for "
        "claude-sonnet-4-5-20250929",
        "max_tokens is too large: 128000. This model supports at most 16384 completion tokens, "
        "whereas you provided 128000.",
        "Range of max_tokens should be [1, 8192]",
        "Invalid max_tokens value, the valid range of max_tokens is [1, 8192]",
        "`max_tokens` must be less than or equal to `8192`, the maximum value for `max_tokens` is "
        "less than the `context_window` for this model",
        "max_tokens: Input should be less than or equal to 8192",
        "The maximum tokens you requested exceeds the model limit of 8192. Try again with a "
        "maximum tokens value that is lower than 8192.",
    ),
    "context_limit": (
        "input length and `max_tokens` exceed context limit: 100000 + 128000 > 200000, decrease "
        "input length or `max_tokens` and try again",
        "'max_tokens' or 'max_completion_tokens' is too large: 128000. This model's maximum "
        "context length is 131072 tokens and your request has 12000 input tokens (128000 > 131072 "
        "- 12000).",
        "This model's maximum context length is 131072 tokens. However, you requested 128000 "
        "output tokens and your prompt contains at least 3073 input tokens, for a total of at "
        "least 131073 tokens.",
        "This model's maximum context length is 131072 tokens. However, you requested 140000 "
        "tokens (12000 in the messages, 128000 in the completion). Please reduce the length of "
        "the messages or completion.",
        "This endpoint's maximum context length is 131072 tokens. However, you requested about "
        "140000 tokens (9000 of text input, 3000 of tool input, 128000 in the output).",
    ),
    "parameters": (
        "Unsupported parameter: 'stop' is not supported with this model.",
        "Unsupported parameter: 'parallel_tool_calls' is not supported with this model.",
        "Unrecognized request argument supplied: user",
        "This model does not support parallel_tool_calls",
    ),
    "reasoning_content": (
        "The `reasoning_content` in the thinking mode must be passed back to the API.",
        "The `content[].thinking` in the thinking mode must be passed back to the API.",
        "thinking is enabled but reasoning_content is missing in assistant tool call message at "
        "index 54",
        "Missing `reasoning_content` field in the assistant message at message index 2.",
    ),
}

NEVER: Final = (
    "prompt is too long: 210000 tokens > 200000 maximum",
    "Input is too long for requested model.",
    "context_length_exceeded",
    "This model's maximum context length is 131072 tokens. However, you requested 140000 tokens "
    "(136000 in the messages, 4000 in the completion). Please reduce the length of the messages.",
    "This model's maximum context length is 8192 tokens. However, your messages resulted in 9000 "
    "tokens. Please reduce the length of the messages.",
    "Your input exceeds the context window of this model",
    "litellm.ContextWindowExceededError: the prompt does not fit",
    "request (9000 tokens) exceeds the available context size (8192 tokens), try increasing it",
    "The prompt is longer than the model's context length",
    "The input token count (1200000) exceeds the maximum number of tokens allowed (1048576).",
    "Invalid request: Your request exceeded model token limit: 131072 (requested: 140000)",
    "Input token length too long",
    "This model's maximum prompt length is 131072 but the request contains 140000 tokens.",
    "Prompt exceeds max length",
    "Range of input length should be [1, 129024]",
    "invalid params, context window exceeds limit (2013)",
    "Prompt has 40000 tokens, but model only supports up to 32768",
    "Please reduce the length of the messages or completion.",
    "Input validation error: `inputs` tokens + `max_new_tokens` must be <= 32769. Given: 40000 "
    "`inputs` tokens and 4096 `max_new_tokens`",
    "input length and `max_tokens` exceed context limit: 199900 + 128000 > 200000, decrease input "
    "length or `max_tokens` and try again",
    "Request exceeds the maximum size",
    "Your credit balance is too low to access the Anthropic API. Please go to Plans & Billing.",
    "You have reached your specified API usage limits. You will regain access on 2026-12-01.",
    "Insufficient Balance",
    "You exceeded your current quota, please check your plan and billing details.",
    "This credential is only authorized for use with Claude Code and cannot be used for others.",
    "OAuth authentication is currently not supported.",
    "This organization has been disabled.",
    "organization_on_hold",
    "claude_code_version_too_old",
    "Output blocked by content filtering policy",
    "model: claude-nope-1",
    "thread_not_found",
    "compaction_signature_invalid",
    "File file_123 was not found",
    "policy_blocked",
    "dlp_request_denied",
    "This model does not support tools",
    "No endpoints found that support tool use. Try disabling some.",
    "tools: must not be provided for this model",
    '"auto" tool choice requires --enable-auto-tool-choice and --tool-call-parser to be set',
    "Invalid request",
    "Bad Request",
    "",
)
"""Conversations that do not fit, accounts, policies, and what says nothing."""

STRUCTURE: Final = (
    "messages.2: `tool_use` ids were found without `tool_result` blocks immediately after: "
    "toolu_a. Each `tool_use` block must have a corresponding `tool_result` block.",
    "messages.4.content.0: unexpected `tool_use_id` found in `tool_result` blocks: toolu_x. Each "
    "`tool_result` block must have a corresponding `tool_use` block in the previous message.",
    "server_tool_use with id srvtoolu_1 was found without a corresponding web_search_tool_result "
    "block",
    "messages.1.content.1: `tool_use` ids must be unique",
    "tools: Tool names must be unique.",
    "messages.1.content.0.text: text content blocks must be non-empty",
    "messages: text content blocks must contain non-whitespace text",
    "messages.3: all messages must have non-empty content except for the optional final assistant",
    "messages.0.content.1.text: cache_control cannot be set for empty text blocks",
    "A maximum of 4 blocks with cache_control may be provided. Found 5.",
    "messages.0.content.0.cache_control.ttl: a ttl='1h' cache_control block must not come after a "
    "ttl='5m' cache_control block.",
    "messages: final assistant content cannot end with trailing whitespace",
    "This model does not support assistant message prefill. The conversation must end with a user "
    "message.",
    'messages: roles must alternate between "user" and "assistant", but found multiple "user" '
    "roles in a row",
    "Conversation roles must alternate user/assistant/user/assistant/...",
    'messages: first message must use the "user" role',
    "Unexpected role 'user' after role 'tool'",
    "Tool call id was toolu_1 but must be a-z, A-Z, 0-9, with a length of 9.",
    "messages.1.content.0.tool_use.id: String should match pattern '^[a-zA-Z0-9_-]+$'",
    "tools.0.custom.name: String should match pattern '^[a-zA-Z0-9_-]{1,64}$'",
    "tools.0.custom.name: String should have at most 64 characters",
    "tools.3.custom.input_schema: JSON schema is invalid. It must match JSON Schema draft 2020-12",
    "tools.3.custom.input_schema: input_schema does not support oneOf, allOf, or anyOf at the top "
    "level",
    "messages.0.content.1.image.source.base64: image exceeds 5 MB maximum: 6 MB > 5 MB",
    "messages.0.content.1.image.source.base64.data: At least one of the image dimensions exceed "
    "max allowed size for many-image requests: 2000 pixels",
    "Could not process image",
    "A maximum of 100 PDF pages may be provided.",
    "messages.1.content.0: document blocks are not supported in assistant messages",
    "Requests which include `tool_use` or `tool_result` blocks must define tools",
    "messages: at least one message is required",
)
"""What is wrong with the order of things, which others repair."""
