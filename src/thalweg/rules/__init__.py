"""Methods of gradient descent, each written once. Read them in this order: sgd, adagrad, rmsprop, adam."""
