# The study in a container; docs/running.md says how to build and run it.
FROM python:3.11.7-slim-bookworm

# DVC and the provenance of a run ask git. Nothing is compiled: all packages come as wheels.
RUN apt-get update \
    && apt-get install --yes --no-install-recommends git make \
    && rm -rf /var/lib/apt/lists/*

RUN useradd --create-home --uid 1000 study && install -d -o study -g study /study
USER study
WORKDIR /study
ENV PATH=/home/study/.venv/bin:$PATH PYTHONUNBUFFERED=1

# Packages before code, so that an edit of a stage does not install them again.
COPY --chown=study:study pyproject.toml constraints.txt README.md LICENSE ./
COPY --chown=study:study stages/__init__.py stages/
COPY --chown=study:study workflow/__init__.py workflow/
RUN python -m venv /home/study/.venv \
    && pip install --no-cache-dir --disable-pip-version-check -c constraints.txt -e .

COPY --chown=study:study . .

CMD ["snakemake", "--cores", "all"]
