"""The HTTP gateway: OpenAI's protocol over the providers of an application."""
