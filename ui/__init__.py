"""The Gradio pages: layout and what is drawn. Decisions are made in the services."""
