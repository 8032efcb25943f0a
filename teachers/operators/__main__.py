"""Print the operator table of docs/teachers.md."""

from keras_amalgam.teachers.operators.registry import table

if __name__ == "__main__":
    print(table())
