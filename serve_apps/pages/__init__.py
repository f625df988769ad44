"""The pages that customers see, rendered on the server.

They work without JavaScript; htmx and a few modules of ours make them quicker. Pages use the same
use cases as the API (``serve_apps.identity``, ``serve_apps.accounts``) and hold no rules of money.
"""
