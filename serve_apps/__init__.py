"""The ingress: REST API, live connections and pages, answered by Ray Serve replicas."""
