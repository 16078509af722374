# The study in a container:
#   docker build -t dfmsd . && docker run --rm -v "$PWD/built:/dfmsd/book/_build" dfmsd
# builds the book into ./built. `docker run --rm dfmsd make test` runs the tests.
FROM python:3.11-bookworm
RUN apt-get update \
    && apt-get install --yes --no-install-recommends chromium chromium-driver g++ make \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /dfmsd
# The environment, where mmcv is compiled, is a layer of its own: a change of the code leaves it. To its last step, empty packages are as good.
COPY pyproject.toml lock.txt Makefile README.md LICENSE ./
COPY scripts scripts
RUN mkdir params notebooks \
    && for part in . losses report study; do mkdir -p dfmsd/$part && touch dfmsd/$part/__init__.py; done \
    && make setup
COPY . .
CMD ["make", "book"]
