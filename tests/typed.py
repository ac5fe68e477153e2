"""What type checkers say of programs: nothing of right ones, and an error at each line of a wrong one that is marked so."""

import numpy as np

import fastrnn

W, U, x = np.ones((12, 2)), np.ones((12, 3)), np.ones((5, 9, 2))
gru, lstm, rnn = fastrnn.GRU(W[:9], U[:9]), fastrnn.LSTM(W, U), fastrnn.RNN(W[:3], U[:3], nonlinearity=("elu", 0.5), leak=0.3)
head = fastrnn.Dense(np.ones((4, 3)), activation="softmax")
model = fastrnn.Sequential(fastrnn.Embedding.one_hot(2), rnn, head, return_sequences=False)


def outputs(any_model: fastrnn.Model) -> np.ndarray:
    return any_model.predict(x, lengths=[9, 8, 7, 0, 1])


def right() -> None:
    for one in (gru, lstm, rnn, head, fastrnn.Sequential(lstm, head), fastrnn.Bidirectional(gru, lstm, merge="sum")):
        outputs(one)
    output, h_n = gru(x, np.zeros((5, 3)), reset=[True, False, False, True, False])
    steps, (h, c) = lstm(x, (np.zeros((5, 3)), None))
    probabilities, state = model([[0, 1]], [None], lengths=[2])
    again, state = model([[0, 1]], state, return_sequences=True)
    tokens, state = fastrnn.generate(model, [0, 1], 20, (np.zeros((2, 3)),), feedback="sample", rng=np.random.default_rng(7), top_k=2)
    stream = model.stream(state0=(np.zeros(3),))
    shape: tuple[int, ...] = stream.step(1).shape
    row: int = model.streams(10).add()
    fastrnn.save(model, "model.safetensors")
    lazy, _ = fastrnn.dask.forward(model, x)
    features = fastrnn.sklearn.Features(model, output="mean")
    print(output, h_n, steps, h, c, probabilities, again, tokens, shape, row, fastrnn.from_state_dict({"weight_ih": W}).summary())
    print(lazy, features, fastrnn.jit.Net(model).model)


def wrong() -> None:
    fastrnn.RNN(W[:3], U[:3], nonlinearity="tanhh")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    fastrnn.RNN(W[:3], U[:3], leak_at="inputs")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    fastrnn.RNN(W[:3], U[:3], leek=0.5)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    fastrnn.GRU(W[:9], U[:9], activation=("elu",))  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    fastrnn.Dense(W, activation="softmaxx")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    fastrnn.Bidirectional(gru, lstm, merge="cat")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    fastrnn.Bidirectional(gru, head)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    fastrnn.Sequential(gru, 3)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    fastrnn.generate(model, 0, 5, feedback="smaple")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    fastrnn.generate(model, 0, 5, rng="seed")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    fastrnn.generate("model", 0, 5)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    fastrnn.log_likelihood(head.weight, [0, 1])  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    gru(x, object())  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    lstm(x, {"h": x})  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    model(x, out=3)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    gru(x, None, [9])  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    outputs(gru.weight_ih)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    gru.hidden_size = "3"  # type: ignore[assignment]  # pyright: ignore[reportAttributeAccessIssue]
    fastrnn.dask.forward(model)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    fastrnn.sklearn.Reservoir(9, leek=0.5)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    count: int = gru(x)[0]  # type: ignore[assignment]  # pyright: ignore[reportAssignmentType]
    print(count)
