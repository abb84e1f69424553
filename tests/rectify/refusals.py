"""What providers say, by the repair that has to know it, and what no repair may touch."""

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
        "[{'type': 'literal_error', 'loc': ('body', 'messages', 1, 'role'), 'msg': 'x'}]"
        " messages.1.role: Input should be 'user' or 'assistant'",
        "'system' is not one of ['user', 'assistant'] - 'messages.1.role'",
        "messages[1].role must be one of 'user', 'assistant'",
        "1 validation error detected: Value 'system' at 'messages.2.member.role' failed to satisfy"
        " constraint: Member must satisfy enum value set: [assistant, user]",
        "Messages with role 'system' are not supported in the middle of a conversation",
        "This model does not support system messages.",
        "System message must come first",
        "Only one system message is allowed",
        "role must be either user or assistant, got system",
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
        "The parameter `max_tokens` specified in the request are not valid: integer above maximum"
        " value, expected a value <= 32768, but got 64000",
        "max_tokens=64000 cannot be greater than max_model_len=max_total_tokens=32768",
        "Unable to submit request because it has a maxOutputTokens value of 64000 but the supported"
        " range is from 1 (inclusive) to 30001 (exclusive). Update the value and try again.",
        "max_tokens must be between 1 and 8192",
        "The maximum value for max_tokens is 8192",
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
    "prompt is too long: 210000 tokens > 200000 maximum",
    "input is too long for requested model",
    "context_length_exceeded",
    "This model's maximum context length is 131072 tokens. However, you requested 140000 tokens"
    " (132000 in the messages, 8000 in the completion). Please reduce the length of the messages.",
    "Your input exceeds the context window of this model.",
    "ContextWindowExceededError",
    "the request exceeds the available context size",
    "The number of tokens is longer than the model's context length",
    "input token count exceeds the maximum number of tokens allowed 1048576",
    "Your request exceeded model token limit: 131072",
    "input token length too long",
    "This model's maximum prompt length is 131072 but the request contains 140000 tokens.",
    "Prompt exceeds max length",
    "Range of input length should be [1, 98304]",
    "invalid params, context window exceeds limit",
    "request (140000 tokens), but model only supports up to 131072",
    "Please reduce the length of the messages or completion.",
    "`inputs` tokens + `max_new_tokens` must be <= 32768. Given: 40000 `inputs` tokens",
    "Your credit balance is too low to access the Anthropic API.",
    "You have reached your specified API usage limits. You will regain access on 2026-12-01.",
    "This credential is only authorized for use with Claude Code",
    "OAuth authentication is currently not supported.",
    "This organization has been disabled.",
    "organization_on_hold",
    "claude_code_version_too_old",
    "Output blocked by content filtering policy",
    "model: claude-none",
    "thread_not_found",
    "compaction_signature_invalid",
    "File file_1 not found",
    "policy_blocked",
    "dlp_request_denied",
    "messages: at least one message is required",
    "invalid request",
    "非法请求",
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

REFUSED: dict[str, tuple[str, ...]] = {
    "tool_use_concurrency": (
        "messages.6: `tool_use` ids were found without `tool_result` blocks immediately after:"
        " toolu_01, toolu_02. Each `tool_use` block must have a corresponding `tool_result` block"
        " in the next message.",
        "messages -> 6: tool_use ids were found without tool_result blocks immediately after: a",
        "messages.27: Did not find 1 `tool_result` block(s) at the beginning of this message."
        " Messages following `tool_use` blocks must begin with a matching number of `tool_result`"
        " blocks.",
        "An assistant message with 'tool_calls' must be followed by tool messages responding to"
        " each 'tool_call_id'. The following tool_call_ids did not have response messages: a",
        "insufficient tool messages following tool_calls message",
        "Expected toolResult blocks at messages.2.content for the following Ids: tooluse_a",
        "Please ensure that the number of function response parts is equal to the number of"
        " function call parts of the function call turn.",
    ),
    "orphan_results": (
        "messages.0.content.0: unexpected `tool_use_id` found in `tool_result` blocks: toolu_9."
        " Each `tool_result` block must have a corresponding `tool_use` block in the previous"
        " message.",
        "messages -> 0 -> content -> 0: unexpected tool_use_id found in tool_result blocks: x",
        "each tool_result block must have a corresponding tool_use block in the previous message",
        "each tool_use must have a single result. Found multiple `tool_result` blocks with id: a",
        "Invalid parameter: messages with role 'tool' must be a response to a preceeding message"
        " with 'tool_calls'.",
        "The number of toolResult blocks at messages.2.content exceeds the number of toolUse"
        " blocks of previous turn.",
    ),
    "server_tools": (
        "messages.1.content.0: `server_tool_use` was found without a corresponding"
        " `web_search_tool_result` block",
        "messages.7.content.1: `web_search` tool use with id `srvtoolu_1` was found without a"
        " corresponding `web_search_tool_result` block",
        "messages.7.content.0: unexpected `tool_use_id` found in `advisor_tool_result` blocks:"
        " srvtoolu_01. Each `advisor_tool_result` block must have a corresponding"
        " `server_tool_use` block before it.",
        "messages.1.content.2.server_tool_use.id: String should match pattern"
        " '^srvtoolu_[a-zA-Z0-9_]+$'",
        "messages.1.content.3.web_search_tool_result.tool_use_id: String should match pattern"
        " '^srvtoolu_[a-zA-Z0-9_]+$'",
    ),
    "tool_ids": (
        "messages.3.content.1: `tool_use` ids must be unique",
        "messages.1.content.1.tool_use.id: String should match pattern '^[a-zA-Z0-9_-]+$'",
        "messages -> 1 -> content -> 1 -> tool_use -> id: string should match pattern"
        " '^[a-zA-Z0-9_-]+$'",
        "messages.2.content.0.tool_result.tool_use_id: String should match pattern"
        " '^[a-zA-Z0-9_-]+$'",
        "Tool call id was toolu_01 but must be a-z, A-Z, 0-9, with a length of 9.",
        "Invalid 'messages[2].tool_calls[0].id': string too long. Expected a string with maximum"
        " length 16, but got a string with length 45 instead.",
        "Invalid 'messages[3].tool_call_id': string too long. Expected a string with maximum"
        " length 16, but got a string with length 45 instead.",
        "messages.2.content.0.tool_result.tool_use_id: String should have at most 16 characters",
    ),
    "tool_names": (
        "tools: Tool names must be unique.",
        "Duplicate function declaration found: Bash",
    ),
    "tools_missing": (
        "Requests which include `tool_use` or `tool_result` blocks must define tools",
        "The toolConfig field must be defined when using toolUse and toolResult content blocks.",
        "Anthropic expects the `tools=` param to be passed in.",
    ),
    "tool_count": (
        "Invalid 'tools': array too long. Expected an array with maximum length 1, but got an array"
        " with length 2 instead.",
        "A maximum of 1 tools is supported",
        "You may define up to 1 functions",
    ),
    "tool_descriptions": (
        "Invalid 'tools[0].function.description': string too long. Expected a string with maximum"
        " length 1024, but got a string with length 5000 instead.",
        "tools.0.custom.description: String should have at most 1024 characters",
        "tool description exceeds the maximum length of 1024",
    ),
    "tool_schemas": (
        "tools.0.custom.input_schema: input_schema does not support oneOf, allOf, or anyOf at the"
        " top level",
        "tools.0.custom.input_schema: JSON schema is invalid. It must match JSON Schema draft"
        " 2020-12 (https://json-schema.org/draft/2020-12). Learn more about tool use at"
        " https://docs.claude.com/en/docs/tool-use.",
        "tools -> 0 -> custom -> input_schema: JSON schema is invalid",
        "tools.0.custom.input_schema.type: Input should be 'object'",
        "Invalid schema for function 'Bash': schema must have type 'object' and not have"
        " 'oneOf'/'anyOf'/'allOf'/'enum'/'not' at the top level.",
        "Invalid schema for function 'Bash': In context=('properties', 'a'), array schema missing"
        " items.",
        "Invalid schema for function 'Bash': In context=(), 'uniqueItems' is not permitted.",
        'Invalid JSON payload received. Unknown name "$schema" at'
        " 'tools[0].function_declarations[0].parameters': Cannot find field.",
        "tools.function.parameters is not a valid moonshot flavored json schema, details: <At path"
        " 'properties.a': type is not defined>",
        "* GenerateContentRequest.tools[0].function_declarations[16].parameters.properties[a]"
        ".items: missing field.",
    ),
    "block_types": (
        "messages.5.content.1: Input tag 'server_tool_use' found using 'type' does not match any of"
        " the expected tags: 'text', 'image'",
        "messages[5]: unknown variant `web_search_tool_result`, expected one of `text`, `image`",
    ),
    "empty_text": (
        "The content field in the Message object at messages.2 is empty. Add a ContentBlock object"
        " to the content field and try again.",
        "Invalid request: the message at position 2 with role 'assistant' must not be empty",
        "messages: text content blocks must be non-empty",
        "messages.3.content.0.text: text content blocks must contain non-whitespace text",
        "messages.4: all messages must have non-empty content except for the optional final"
        " assistant message",
        "messages.0: user messages must have non-empty content",
        "messages.0.content.1.text: cache_control cannot be set for empty text blocks",
        "The text field in the ContentBlock object at messages.0.content.0 is blank. Add text to"
        " the text field, and try again.",
    ),
    "cache_marks": (
        "A maximum of 4 blocks with cache_control may be provided. Found 9.",
        "messages.1.content.0.cache_control.ttl: a ttl='1h' cache_control block must not come after"
        " a ttl='5m' cache_control block. Note that blocks are processed in the following order:"
        " `tools`, `system`, `messages`.",
    ),
    "citations": (
        "messages.1.content.0: `document` blocks are not permitted in assistant messages",
        "messages.0.content.0.citations: citations are not allowed on text blocks in user messages",
        "messages.1.content.0: document blocks directly in assistant messages are not supported"
        " for this API version",
    ),
    "media": (
        "You uploaded an unsupported image. Please make sure your image has of one the following"
        " formats: ['png', 'jpeg', 'gif', 'webp'].",
        "The image data you provided does not represent a valid image. Please check your input and"
        " try again with one of the supported image formats",
        "messages.2.content.0.content.0.type: Invalid discriminator value. Expected 'text'",
        "Only text content is supported",
        "image input is not supported - hint: you may need to provide the mmproj",
        "No endpoints found that support image input",
        "Unsupported content part type: image_url",
        "messages.2.content.1.image.source.base64: image exceeds 5 MB maximum: 6500712 bytes > 524"
        "2880 bytes",
        "messages.7.content.3.image.source.base64.data: At least one of the image dimensions exceed"
        " max allowed size: 2000 pixels",
        "messages.2.content.1.image.source.base64.data: At least one of the image dimensions exceed"
        " max allowed size for many-image requests: 2000 pixels",
        "messages.2.content.1.image: Could not process image",
        "messages -> 2 -> content -> 1 -> image: Could not process image",
        "messages.2.content.1.image.source.base64: The image was specified using the image/jpeg"
        " media type, but the image appears to be a image/png image",
        "messages.2.content.1: Image does not match the provided media type image/jpeg",
        "too much media: 0 document pages + 3 images > 1",
        "At most 1 image(s) may be provided in one request.",
        "this model does not support image input (ref: b8bd630e)",
        "Failed to deserialize the JSON body into the target type: messages[0]: unknown variant"
        " `image_url`, expected `text` at line 1 column 9",
        "No endpoints found that support image input",
        "Invalid content type. image_url is only supported by certain models.",
        "m is not a multimodal model",
        "messages.2.content.0: A maximum of 100 PDF pages may be provided.",
        "messages.2.content.2.document: The PDF specified was not valid.",
        "messages.2.content.2.document.source: The PDF specified is password protected.",
        "This model does not support document input",
    ),
    "after_results": (
        "Unexpected role 'user' after role 'tool'",
        "Unexpected role 'system' after role 'tool'",
    ),
    "alternation": (
        'messages: roles must alternate between "user" and "assistant", but found multiple "user"'
        " roles in a row",
        "Conversation roles must alternate user/assistant/user/assistant/...",
        "After the optional system message, conversation roles must alternate user/assistant",
        'messages: first message must use the "user" role',
        "A conversation must start with a user message. Try again with a conversation that starts"
        " with a user message.",
        "deepseek-reasoner does not support successive user or assistant messages (messages[1] and"
        " messages[2] in your input).",
        "A conversation must alternate between user and assistant roles.",
    ),
    "prefill": (
        "messages: final assistant content cannot end with trailing whitespace",
        "This model does not support assistant message prefill. The conversation must end with a"
        " user message.",
        "A conversation must end with a user message. Try again with a conversation that ends with"
        " a user message.",
        "Expected last role User or Tool (or Assistant with prefix True) for serving but got"
        " assistant",
        "The last message of deepseek-reasoner must be a user message, or an assistant message"
        " with prefix mode on",
        "Cannot set `add_generation_prompt` to True when the last message is from the assistant.",
    ),
}

OTHERS = (
    "messages.1.content.0: Invalid `signature` in `thinking` block",
    "messages.3.content.0: thinking block is bound to a different conversation",
    "messages.1.content.0.type: Expected `thinking` or `redacted_thinking`, but found `tool_use`.",
    "messages.1.content.0.thinking.signature: Field required",
    "messages.1.content.0.tool_use.signature: Extra inputs are not permitted",
    "messages.1.content.0: `thinking` blocks in the latest assistant message cannot be modified",
    "thinking.enabled.budget_tokens: Input should be greater than or equal to 1024",
    "`max_tokens` must be greater than `thinking.budget_tokens`",
    "`thinking.type.enabled` is not supported for this model. Use `thinking.type.adaptive`",
    "adaptive thinking is not supported on this model",
    "Thinking may not be enabled when tool_choice forces tool use.",
    "`temperature` may only be set to 1 when thinking is enabled",
    "The reasoning_content in the thinking mode must be passed back to the API.",
    'tool_choice: type "tool" and "any" are not supported for this model',
    "Function call is missing a thought_signature in functionCall parts",
    "Unexpected value(s) `a-1` for the `anthropic-beta` header",
    "context_management: Extra inputs are not permitted",
    "tools.0.custom.defer_loading: Extra inputs are not permitted",
    "system.0.cache_control.ephemeral.scope: Extra inputs are not permitted",
    "messages.0.content.0.citations: Extra inputs are not permitted",
    "messages.1.role: Input should be 'user' or 'assistant'",
    'Unexpected role "system". Allowed roles are "user" or "assistant"',
    "x-anthropic-billing-header is a reserved keyword",
    "`temperature` and `top_p` cannot both be specified for this model.",
    "max_tokens: 128000 > 64000, which is the maximum allowed number of output tokens",
    "input length and `max_tokens` exceed context limit: 199000 + 8000 > 200000",
    "Unsupported parameter: 'max_tokens' is not supported with this model.",
    "Unsupported value: 'temperature' does not support 0.2 with this model.",
    "No endpoints found that support tool use",
    "tools.0.custom.name: String should match pattern '^[a-zA-Z0-9_-]{1,64}$'",
    "tools.0.custom.name: String should have at most 64 characters",
)
"""What the repairs of structure must leave to others."""
