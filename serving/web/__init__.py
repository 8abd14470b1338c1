"""The page: server-rendered, one style sheet, a little plain JavaScript that it works without."""
