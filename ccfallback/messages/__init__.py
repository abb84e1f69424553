"""What the Messages API is. Pure, and independent of all other packages.

One place for what `wire`, `rectify` and `policy` all have to know of a request or an answer:

- `body`: `Body`, a request of which only the members that are read are parsed; `decode_json`;
  `UNREADABLE`, what a JSON decoder raises; lone surrogates.
- `turns`: messages and blocks. To read them: `role_of`, `kind_of`, `string`, `blocks_of` (of a
  content; objects only), `texts_in`, `places`. To rewrite them: `content_list` (of a message; odd
  items stay), `text_block`, `with_content`, `map_blocks`, `map_messages`,
  `without_empty_messages`. Also `reminder`, the `<system-reminder>` around a system message.
- `edit`: parts of a body by path (`has`, `without`, `without_blocks`, `map_items`), with every
  other byte left as it was.
- `effort`: budgets and efforts (`LEAST_BUDGET`, `EFFORTS`, `effort_for_budget`, `requested_effort`,
  `with_at_most`).
- `thinking`: thinking blocks, and the mark of thinking that Anthropic did not make.
- `system`: the system prompt (`BILLING_MARK`, `without_billing`) and system messages within the
  conversation (`without_system_messages`, `with_tool_changes_made`).
- `tools`: `ToolNames` and ids that every provider takes, tools that a conversation adds, removes
  or loads (`tools_after_changes`, `with_all_loaded`), and the notes `available_note`,
  `INTERRUPTED` and `NO_RESULT`.
- `server_tools`: what a conversation says of tools that Anthropic ran, in words.
- `json_schema`: where a schema contains schemas (`subschemas`, `map_subschemas`, `rewrite`).
- `media`: kind and size of an image.
- `errors`: an upstream's error of any shape, and our own.
- `prompt_length`: refusals of a prompt that is too long (`says_prompt_too_long`, `context_sizes`,
  `prompt_too_long_with_sizes`).
- `reset_hints`: when an upstream says that it will serve again, in headers, body or words.
- `tokens`: an estimate of a request's tokens.
- `sse`, `assemble`: events of a stream; a stream as a whole message and the reverse.
"""
