ENV PATH=/app/.venv/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    BENTOML_CONTAINERIZED=true \
    BENTOML_DO_NOT_TRACK=True \
    BENTOML_HOME=/var/lib/fairmark/bentoml \
    FAIRMARK_SERVICE__ARTIFACT_FOLDER=/var/lib/fairmark/models \
    FAIRMARK_SERVICE__CACHE__FOLDER=/var/lib/fairmark/cache
RUN groupadd --gid 10001 fairmark \
    && useradd --uid 10001 --gid fairmark --no-create-home --home-dir /var/lib/fairmark --shell /usr/sbin/nologin fairmark \
    && install --directory --owner fairmark --group fairmark --mode 0750 /var/lib/fairmark
# Root's: whoever breaks into the service cannot change its code.
COPY --from=packages /app/.venv /app/.venv
COPY . /app/bento
USER 10001:10001
WORKDIR /var/lib/fairmark
VOLUME /var/lib/fairmark
EXPOSE 3000
# Ready, not only alive: a load balancer or `docker ps` shows an instance whose models are not warm as unhealthy.
HEALTHCHECK --interval=10s --timeout=3s --start-period=300s --retries=3 \
    CMD ["python3", "-c", "import urllib.request as u; u.urlopen('http://127.0.0.1:3000/readyz', timeout=2)"]
ENTRYPOINT ["bentoml", "serve", "/app/bento", "--host", "0.0.0.0", "--port", "3000"]
