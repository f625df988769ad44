# Kontor in a container: built with everything, run with what is needed, and never as root.

FROM python:3.13-slim AS build
WORKDIR /src
COPY requirements-bootstrap.lock requirements.lock ./
RUN python -m venv /opt/build \
    && /opt/build/bin/pip install --no-cache-dir --require-hashes -r requirements-bootstrap.lock
ENV VIRTUAL_ENV=/opt/build
RUN /opt/build/bin/uv pip sync --no-cache --require-hashes requirements.lock
COPY . .
RUN /opt/build/bin/uv pip install --no-cache --no-build-isolation --no-deps --editable . \
    && /opt/build/bin/kontor assets \
    && /opt/build/bin/uv build --wheel --no-build-isolation --out-dir /wheel .
# What runs: the same versions without the tools of development.
RUN /opt/build/bin/uv pip compile --no-cache pyproject.toml --constraints requirements.lock \
        --universal --python-version 3.11 --generate-hashes --output-file runtime.lock \
    && python -m venv --without-pip /opt/kontor \
    && VIRTUAL_ENV=/opt/kontor /opt/build/bin/uv pip sync --no-cache --require-hashes \
        --compile-bytecode runtime.lock \
    && VIRTUAL_ENV=/opt/kontor /opt/build/bin/uv pip install --no-cache --no-deps \
        --compile-bytecode /wheel/*.whl
# The matching engine, compiled.
RUN apt-get update && apt-get install --yes --no-install-recommends gcc libc6-dev \
    && /opt/build/bin/kontor compile --into \
        "$(/opt/kontor/bin/python -c 'import sysconfig; print(sysconfig.get_path("platlib"))')"

FROM python:3.13-slim
RUN useradd --create-home --uid 10001 kontor && install --directory --owner kontor /var/lib/kontor
COPY --from=build /opt/kontor /opt/kontor
USER kontor
WORKDIR /var/lib/kontor
ENV PATH=/opt/kontor/bin:$PATH \
    KONTOR_HOST=0.0.0.0 \
    KONTOR_PORT=8080 \
    KONTOR_DATA_DIR=/var/lib/kontor
EXPOSE 8080
VOLUME /var/lib/kontor
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=5s --timeout=3s --start-period=90s --retries=5 \
    CMD ["python", "-c", "import os, urllib.request as r; r.urlopen('http://127.0.0.1:' + os.environ['KONTOR_PORT'] + '/readyz', timeout=2)"]
CMD ["kontor", "up"]
