"""The ASGI application: routes, sessions, headers, and where the Gradio pages are mounted."""
