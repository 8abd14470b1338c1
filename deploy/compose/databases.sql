-- Run once, when PostgreSQL makes its folder; the cache's own database is POSTGRES_DB.
CREATE DATABASE mlflow;
