"""The service: published models, scored over HTTP. No torch, no pandas, nothing but `essays` of ours."""
