"""The running server: asynchronous I/O around the decisions of `policy`.

| module | does | with |
|---|---|---|
| `serve` | runs the process | `listening`, `process`, `services` |
| `gate`, `routes` | admit a request and find its endpoint | `context`, `endpoint` |
| `messages` | answers `/v1/messages` | `chain`, `client`, `health`, `bill` |
| `side_endpoints`, `metrics` | answer everything else | |
| `failover_driver` | makes the attempts of one request | `repairs`, `credentials` |
| `attempt`, `stream` | make one attempt, and relay its stream | `response` |
| `upstream` | reaches the network | `outgoing`, `proxied`, `trust` |
| `breakers`, `live_config` | hold what others may change | `refresher`, `serial_executor` |
| `record` | writes the log | |
"""
