# nginx with its watch, which keeps requests from instances that are not ready. Built from the repository's root.
FROM debian:12-slim
RUN apt-get update -qq \
    && apt-get install -y -qq --no-install-recommends nginx python3 python3-jinja2 python3-psutil \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /srv/fairmark
COPY deploy/__init__.py deploy/processes.py deploy/service.py deploy/
COPY deploy/nginx deploy/nginx
COPY essays/__init__.py essays/console.py essays/errors.py essays/ports.py essays/
COPY serving/web/static serving/web/static
# nginx's workers are www-data; its master must open ports 80 and 443.
ENTRYPOINT ["python3", "-m", "deploy.nginx"]
