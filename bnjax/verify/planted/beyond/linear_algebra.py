"""Linear algebra: products, solves, factorizations."""

import jax.numpy as jnp

from bnjax.verify.planted.beyond.topic import N, Topic, matrix, normal

_solve = jnp.linalg.solve

SOLVE = Topic(
    "solve", _solve, (matrix(3), normal(3, N)),
    right={
        "the transposed system": lambda a, b, y, dy: (-(g := _solve(a.T, dy)) @ y.T, g),
        "by the inverse": lambda a, b, y, dy: (-(g := jnp.linalg.inv(a).T @ dy) @ y.T, g),
    },
    wrong={
        "a not transposed": lambda a, b, y, dy: (-(g := _solve(a, dy)) @ y.T, g),
        "a's sign": lambda a, b, y, dy: ((g := _solve(a.T, dy)) @ y.T, g),
        "a's cotangent transposed": lambda a, b, y, dy: (-y @ (g := _solve(a.T, dy)).T, g),
        "b for the solution": lambda a, b, y, dy: (-(g := _solve(a.T, dy)) @ b.T, g),
        "a a constant": lambda a, b, y, dy: (0 * a, _solve(a.T, dy)),
    },
)  # fmt: skip
DOT = Topic(
    "product of two vectors", jnp.dot, (normal(N), normal(N)),
    right={"the other": lambda x, w, y, dy: (dy * w, dy * x)},
    wrong={
        "its own": lambda x, w, y, dy: (dy * x, dy * w),
        "the product": lambda x, w, y, dy: (y * w, y * x),
    },
)  # fmt: skip
INVERSE = Topic(
    "inverse",
    jnp.linalg.inv,
    (matrix(3),),
    right={"−yᵀ·dy·yᵀ": lambda a, y, dy: (-y.T @ dy @ y.T,)},
    wrong={
        "the sign": lambda a, y, dy: (y.T @ dy @ y.T,),
        "not transposed": lambda a, y, dy: (-y @ dy @ y,),
        "dy transposed": lambda a, y, dy: (-y.T @ dy.T @ y.T,),
    },
)
LOG_DET = Topic(
    "log-determinant",
    lambda a: jnp.linalg.slogdet(a)[1],
    (matrix(3),),
    right={
        "the inverse transposed": lambda a, y, dy: (dy * jnp.linalg.inv(a).T,),
        "by a solve": lambda a, y, dy: (dy * _solve(a.T, jnp.eye(len(a), dtype=a.dtype)),),
    },
    wrong={
        "not transposed": lambda a, y, dy: (dy * jnp.linalg.inv(a),),
        "that of the determinant": lambda a, y, dy: (dy * jnp.linalg.det(a) * jnp.linalg.inv(a).T,),
        "the sign": lambda a, y, dy: (-dy * jnp.linalg.inv(a).T,),
    },
)


def _gram(x):
    return x @ x.T + 2 * jnp.eye(len(x), dtype=x.dtype)


def _murray(halved=0.5, lower=True, transposed=True, both=2.0):
    """Murray's backward pass of Cholesky's factor of x·xᵀ + 2; the keywords put one thing wrong."""

    def backward(x, y, dy):
        s = (y.T if transposed else y) @ jnp.tril(dy)
        s = (jnp.tril(s) if lower else s) * jnp.where(jnp.eye(len(x), dtype=bool), halved, 1)
        inverse = jnp.linalg.inv(y)
        s = inverse.T @ s @ inverse
        return (both * 0.5 * (s + s.T) @ x,)

    return backward


CHOLESKY = Topic(
    "Cholesky",
    lambda x: jnp.linalg.cholesky(_gram(x)),
    (normal(3, 4),),
    right={"Murray's": _murray()},
    wrong={
        "the diagonal not halved": _murray(halved=1.0),
        "the upper triangle too": _murray(lower=False),
        "the factor not transposed": _murray(transposed=False),
        "half of x·xᵀ": _murray(both=1.0),
    },
)
EIGENVALUES = Topic(
    "eigenvalues", lambda x: jnp.linalg.eigvalsh(x + x.T), (matrix(3),),
    right={"by the vectors": lambda x, y, dy: (
        2 * (v := jnp.linalg.eigh(x + x.T)[1]) @ (dy[:, None] * v.T),)},
    wrong={
        "vectors transposed": lambda x, y, dy: (
            2 * (v := jnp.linalg.eigh(x + x.T)[1]).T @ (dy[:, None] * v),),
        "without the 2": lambda x, y, dy: ((v := jnp.linalg.eigh(x + x.T)[1]) @ (dy[:, None] * v.T),),
        "the order reversed": lambda x, y, dy: (
            2 * (v := jnp.linalg.eigh(x + x.T)[1]) @ (dy[::-1, None] * v.T),),
    },
)  # fmt: skip
BATCHED = Topic(
    "batched product", jnp.matmul, (normal(N, 2, 3), normal(N, 3, 2)),
    right={
        "swapped axes": lambda a, b, y, dy: (dy @ jnp.swapaxes(b, 1, 2), jnp.swapaxes(a, 1, 2) @ dy),
        "einsum": lambda a, b, y, dy: (
            jnp.einsum("nik,njk->nij", dy, b), jnp.einsum("nij,nik->njk", a, dy)),
    },
    wrong={
        "b's summed": lambda a, b, y, dy: (
            dy @ jnp.swapaxes(b, 1, 2), 0 * b + jnp.einsum("nij,nik->jk", a, dy)),
        "the batch reversed": lambda a, b, y, dy: (
            dy[::-1] @ jnp.swapaxes(b, 1, 2), jnp.swapaxes(a, 1, 2) @ dy),
    },
)  # fmt: skip
BILINEAR = Topic(
    "bilinear form", lambda x, w, z: jnp.einsum("ni,ij,nj->n", x, w, z),
    (normal(N, 3), normal(3, 3), normal(N, 3)),
    right={"by hand": lambda x, w, z, y, dy: (
        dy[:, None] * (z @ w.T), x.T @ (dy[:, None] * z), dy[:, None] * (x @ w))},
    wrong={
        "x's w not transposed": lambda x, w, z, y, dy: (
            dy[:, None] * (z @ w), x.T @ (dy[:, None] * z), dy[:, None] * (x @ w)),
        "w's transposed": lambda x, w, z, y, dy: (
            dy[:, None] * (z @ w.T), z.T @ (dy[:, None] * x), dy[:, None] * (x @ w)),
        "w without dy": lambda x, w, z, y, dy: (
            dy[:, None] * (z @ w.T), x.T @ z, dy[:, None] * (x @ w)),
    },
    hidden={"w's mean": lambda x, w, z, y, dy: (
        dy[:, None] * (z @ w.T), x.T @ (dy[:, None] * z) / len(x), dy[:, None] * (x @ w))},
)  # fmt: skip


def _dense(x, w, b):
    return jnp.maximum(x @ w + b, 0)


DENSE = Topic(
    "dense layer", _dense, (normal(N, 3), normal(3, 3), normal(3)),
    right={
        "the output's mask": lambda x, w, b, y, dy: ((g := dy * (y > 0)) @ w.T, x.T @ g, jnp.sum(g, 0)),
        "einsum": lambda x, w, b, y, dy: (
            jnp.einsum("nj,ij->ni", g := jnp.where(y > 0, dy, 0), w), jnp.einsum("ni,nj->ij", x, g),
            jnp.einsum("nj->j", g)),
    },
    wrong={
        "without the mask": lambda x, w, b, y, dy: (dy @ w.T, x.T @ dy, jnp.sum(dy, 0)),
        "w not transposed": lambda x, w, b, y, dy: ((g := dy * (y > 0)) @ w, x.T @ g, jnp.sum(g, 0)),
        "the output for the mask": lambda x, w, b, y, dy: ((g := dy * y) @ w.T, x.T @ g, jnp.sum(g, 0)),
        "b without the mask": lambda x, w, b, y, dy: ((g := dy * (y > 0)) @ w.T, x.T @ g, jnp.sum(dy, 0)),
    },
    hidden={
        "b's mean": lambda x, w, b, y, dy: ((g := dy * (y > 0)) @ w.T, x.T @ g, jnp.mean(g, 0)),
        "b of the first example": lambda x, w, b, y, dy: ((g := dy * (y > 0)) @ w.T, x.T @ g, g[0]),
    },
)  # fmt: skip
QUADRATIC = Topic(
    "quadratic form", lambda x, a: jnp.einsum("ni,ij,nj->n", x, a, x), (normal(N, 3), normal(3, 3)),
    right={"both halves": lambda x, a, y, dy: (
        dy[:, None] * (x @ (a + a.T)), jnp.einsum("n,ni,nj->ij", dy, x, x))},
    wrong={
        "as if symmetric": lambda x, a, y, dy: (
            2 * dy[:, None] * (x @ a), jnp.einsum("n,ni,nj->ij", dy, x, x)),
        "one half": lambda x, a, y, dy: (dy[:, None] * (x @ a.T), jnp.einsum("n,ni,nj->ij", dy, x, x)),
        "a's diagonal": lambda x, a, y, dy: (
            dy[:, None] * (x @ (a + a.T)), jnp.diag(jnp.sum(dy[:, None] * x * x, 0))),
    },
)  # fmt: skip

ALGEBRA = (DOT, SOLVE, INVERSE, LOG_DET, CHOLESKY, EIGENVALUES, BATCHED, BILINEAR, DENSE, QUADRATIC)
