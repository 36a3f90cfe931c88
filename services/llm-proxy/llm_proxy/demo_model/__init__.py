"""The demo model: answers without any provider, by rules. The same request always gets the same answer.

A request is read into a `Conversation`, the newest prompt into a plan of steps, and the tool results that
are in the conversation say which of them are done. The answer is the next step as a tool call, or, after
the last one, a text.
"""
