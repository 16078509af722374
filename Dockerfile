# The study in a container:
#   docker build -t dfmsd . && docker run --rm -v "$PWD/built:/dfmsd/book/_build" dfmsd
# builds the book into ./built. `docker run --rm dfmsd make test` runs the tests.
FROM python:3.11-bookworm
RUN apt-get update \
    && apt-get install --yes --no-install-recommends chromium chromium-driver g++ make \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /dfmsd
# The environment, where mmcv is compiled, is a layer of its own: a change of the code leaves it.
COPY pyproject.toml lock.txt Makefile README.md LICENSE ./
COPY scripts scripts
COPY dfmsd dfmsd
COPY params params
COPY notebooks notebooks
RUN make setup
COPY . .
CMD ["make", "book"]
