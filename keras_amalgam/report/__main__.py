"""Print the JSON Schema of `report.json`, for docs/report.schema.json."""

import json

from keras_amalgam.report.json_schema import json_schema

if __name__ == "__main__":
    print(json.dumps(json_schema(), indent=2, ensure_ascii=False))
