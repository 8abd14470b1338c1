# MLflow's server with drivers for PostgreSQL and S3, at the versions that the repository locks. Built from its root.
FROM python:3.11-slim
COPY requirements.txt /tmp/requirements.txt
# As constraints pip takes versions alone: with hashes it wants every name to be pinned where it is asked for.
RUN sed -E '/^ +--hash/d; s/ \\$//' /tmp/requirements.txt > /tmp/constraints.txt \
    && pip install --no-cache-dir --constraint /tmp/constraints.txt mlflow "psycopg[binary]" boto3 \
    && useradd --create-home mlflow
USER mlflow
EXPOSE 5000
ENTRYPOINT ["mlflow", "server"]
